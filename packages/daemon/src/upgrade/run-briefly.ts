/** Runs a program to its end, with a limit on its time, and returns what it printed. */
import { messageOf } from "@bureau/kit/errors";
import { runToEnd } from "@bureau/os/run-to-end";

const OUTPUT_CHARS_MAX = 600;

/** Never throws: a program that cannot run, or was stopped, has the code -1. */
export async function runBriefly(
  command: readonly string[],
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<{ readonly code: number; readonly said: string }> {
  try {
    const { code, stdout, stderr } = await runToEnd(command, {
      what: `"${command[0]}"`,
      timeoutMs,
      ...(signal === undefined ? {} : { signal }),
    });
    const said = `${stderr}${stdout}`.trim().slice(-OUTPUT_CHARS_MAX);
    return { code, said: said === "" ? `exited with ${code}` : said };
  } catch (error) {
    return { code: -1, said: messageOf(error) };
  }
}
