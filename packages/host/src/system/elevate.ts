/**
 * Runs the doctor again as root through sudo, with the same flags and the same terminal. Root runs the resolved program,
 * never one that the system user or the operators could have changed, and never in the caller's working directory, which
 * another user may control.
 */
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { shellLine } from "@bureau/kit/shell-words";
import { hasTerminal } from "./has-terminal.ts";
import { requireTrustworthy } from "./require-trustworthy.ts";

/** The doctor under sudo adds this to its exit code, so that sudo's own failures can be told from the doctor's. */
export const ELEVATED_EXIT_BASE = 40;
/** Also added when the machine has joined meanwhile: the bootstrap file is used up. */
export const ELEVATED_JOINED = 5;

/**
 * Runs `bureau ARGS --elevated` as root and returns its exit code, which may be {@link ELEVATED_JOINED} more. `typed` is the
 * same command as a person types it.
 * @throws BureauError `forbidden` when there is no sudo, or sudo refuses
 */
export async function runElevated(
  build: string,
  args: readonly string[],
  stdin: string | undefined,
  typed: readonly string[] = args,
): Promise<number> {
  requireTrustworthy(build);
  const sudo = Bun.which("sudo");
  const program = join(build, "bin", "bureau");
  const byHand = `as root: ${shellLine([program, ...typed])}`;
  if (sudo === null)
    throw new BureauError("forbidden", "This needs root, and this host has no sudo", { hint: byHand });
  // Without a terminal no password can be typed, so sudo must not wait for one.
  const quiet = hasTerminal() ? [] : ["-n"];
  const child = Bun.spawn([sudo, ...quiet, "--", program, ...args, "--elevated"], {
    cwd: "/",
    stdin: stdin === undefined ? "inherit" : Buffer.from(stdin),
    stdout: "inherit",
    stderr: "inherit",
  });
  // Ctrl-C reaches the child too, and the child reports how far it came.
  const ignore = (): void => {};
  process.on("SIGINT", ignore);
  const code = await child.exited;
  process.off("SIGINT", ignore);
  if (code >= ELEVATED_EXIT_BASE && code < ELEVATED_EXIT_BASE + 10) return code - ELEVATED_EXIT_BASE;
  throw new BureauError("forbidden", `This needs root, and sudo exited with ${code}`, { hint: byHand });
}
