/** Prints help without command/terminal.ts, which imports node:fs: that takes half as long as starting the runtime. */
import { harmless } from "@bureau/kit/harmless";

/** Writes all of it, also to a pipe whose reader is slow. It is no error when the reader closes the pipe. */
export async function printHelp(text: string): Promise<void> {
  await Bun.write(Bun.stdout, `${harmless(text)}\n`).catch(() => {});
}
