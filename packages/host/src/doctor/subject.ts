/** What a doctor examines: which installation, which machine, which operator. */
import type { ViewOptions } from "../checks/host-view.ts";

export type Subject = Omit<ViewOptions, "clock"> & {
  /** The bootstrap file's text. */
  readonly bootstrap: string | undefined;
};
