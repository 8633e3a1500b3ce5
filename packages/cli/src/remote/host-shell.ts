/**
 * Runs programs on a host: this one, or one reached over ssh. One interface for both, so that code that changes a machine
 * is written and tested once. Output has a size limit, beyond which it is an error. Control characters are removed before
 * a person sees it: a host that is being set up must not control the operator's terminal.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Ran, RunOptions } from "@bureau/os/run-to-end";

export type HostShell = AsyncDisposable & {
  /** For sentences: `root@new-host`, `this machine`. */
  readonly name: string;
  /**
   * Runs a program to its end, with any exit code.
   * @throws BureauError `unavailable` when the host cannot be reached, `timeout`, `too-large` when it prints too much
   */
  run(argv: readonly string[], options: RunOptions): Promise<Ran>;
};

const QUOTED_LINES_MAX = 8;
const QUOTED_CHARS_MAX = 300;

/** {@link HostShell.run} for what must succeed. `act` completes "Cannot …". @throws BureauError with the host's words */
export async function runOrThrow(
  host: HostShell,
  act: string,
  argv: readonly string[],
  options: RunOptions & { readonly hint?: string },
): Promise<string> {
  const ran = await host.run(argv, options);
  if (ran.code === 0) return ran.stdout;
  throw new BureauError("failed", `Cannot ${act} on ${host.name}: exit code ${ran.code}${quote(ran)}`, {
    ...(options.hint === undefined ? {} : { hint: options.hint }),
  });
}

/** The last lines of output of a host, to append to a sentence. */
export function quote({ stdout, stderr }: { readonly stdout?: string; readonly stderr: string }): string {
  const lines = lastLines(stderr.trim() === "" ? (stdout ?? "") : stderr);
  return lines.length === 0 ? ", without output" : `. Output:\n${lines.map((l) => `  │ ${l}`).join("\n")}`;
}

/** The last lines that are not empty, harmless and not too long. */
export function lastLines(text: string, count = QUOTED_LINES_MAX): string[] {
  return text
    .split(/[\r\n]+/u)
    .map(harmless)
    .filter((line) => line !== "")
    .slice(-count);
}

/** {@link withoutControls}, and not too long to be quoted. */
export function harmless(line: string): string {
  const text = withoutControls(line).trimEnd();
  return text.length > QUOTED_CHARS_MAX ? `${text.slice(0, QUOTED_CHARS_MAX)}…` : text;
}

/** A line without what would move the cursor, change colours or write elsewhere on a terminal. */
export const withoutControls = (line: string): string => Bun.stripANSI(line).replace(/[\p{Cc}\p{Cf}]/gu, "");
