/** One step of a longer command, with its progress shown: ticked off when it is done, crossed out when it throws. */
/** One step in progress. */
export type Step = {
  /** Replaces the text of the step. */
  update(text: string): void;
  /** Prints a line that stays, while the step continues. */
  note(text: string): void;
  done(text?: string): void;
  fail(text?: string): void;
};

/** Takes the progress of an operation of many steps: a terminal shows it, a service logs it. */
export type Steps = {
  /** Begins a step that may take a while. */
  step(text: string): Step;
  /** A line for the person, not part of the result. */
  say(line: string): void;
};

/** `said` makes the line that stays from the result. */
export async function runStep<T>(
  steps: Steps,
  text: string,
  act: (shown: Step) => Promise<T>,
  said?: (result: T) => string,
): Promise<T> {
  const shown = steps.step(text);
  try {
    const result = await act(shown);
    shown.done(said?.(result));
    return result;
  } catch (error) {
    shown.fail();
    throw error;
  }
}
