/** One step of a longer command, with its progress shown: ticked off when it is done, crossed out when it throws. */
import type { Step, Terminal } from "./terminal.ts";

/** `said` makes the line that stays from the result. */
export async function runStep<T>(
  terminal: Terminal,
  text: string,
  act: (shown: Step) => Promise<T>,
  said?: (result: T) => string,
): Promise<T> {
  const shown = terminal.step(text);
  try {
    const result = await act(shown);
    shown.done(said?.(result));
    return result;
  } catch (error) {
    shown.fail();
    throw error;
  }
}
