/**
 * Running programs on a host, be it this one or one reached over ssh: one interface, so that whatever is done to a
 * machine is written, and tested, once. Output is kept within limits, never thrown away silently, and made harmless
 * before a person sees it: a host that is being set up is not trusted with the operator's terminal.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Ran, RunOptions } from "@bureau/os/run-to-end";

export type HostShell = AsyncDisposable & {
  /** For sentences: `root@new-host`, `this machine`. */
  readonly name: string;
  /**
   * Runs a program to its end, whatever its exit code.
   * @throws BureauError `unavailable` when the host cannot be reached, `timeout`, `too-large` when it prints without end
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

/** What a host said last, set off below a sentence. */
export function quote({ stdout, stderr }: { readonly stdout?: string; readonly stderr: string }): string {
  const lines = lastLines(stderr.trim() === "" ? (stdout ?? "") : stderr);
  return lines.length === 0
    ? ", and it said nothing"
    : `. It said:\n${lines.map((l) => `  │ ${l}`).join("\n")}`;
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
