/** {@link HostShell} for this machine: programs run as they are. */
import { runToEnd } from "@bureau/os/run-to-end";
import type { HostShell } from "./host-shell.ts";

export function localShell(options: { readonly signal?: AbortSignal } = {}): HostShell {
  return {
    name: "this machine",
    run: (argv, how) =>
      runToEnd(argv, {
        ...how,
        what: `"${argv[0]}" on this machine`,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      }),
    [Symbol.asyncDispose]: async () => {},
  };
}
