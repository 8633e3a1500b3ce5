/**
 * The steps of a deploy. Each is shown while it runs, and timed. An error names the failed step.
 */
import type { Clock } from "@bureau/kit/clock";
import { BureauError, type ErrorCode, isBureauError, messageOf } from "@bureau/kit/errors";
import { InputError } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import type { Terminal } from "../command/terminal.ts";

export type StepResult = {
  readonly name: string;
  readonly seconds: number;
  /** Nothing had to be done. */
  readonly skipped?: true;
  readonly detail: string;
};

/** The result of a step, and what to show of it. */
export type Outcome<T> = { readonly value: T; readonly detail: string; readonly skipped?: true };

/** Characters of what a step is doing: a live line must not wrap. */
const DOING_CHARS_MAX = 60;

export class Steps {
  readonly results: StepResult[] = [];
  readonly #terminal: Terminal;
  readonly #clock: Clock;
  readonly #again: string;
  readonly #started: number;

  /** `again` is the command that continues after a failure. */
  constructor(options: { readonly terminal: Terminal; readonly clock: Clock; readonly again: string }) {
    this.#terminal = options.terminal;
    this.#clock = options.clock;
    this.#again = options.again;
    this.#started = options.clock.monotonic();
  }

  get seconds(): number {
    return this.#since(this.#started);
  }

  /**
   * Runs one. `quiet`: draws no live line, because a person may be asked for a password meanwhile.
   * @throws BureauError that names the step, and has the command to continue as its hint
   */
  async run<T>(
    name: string,
    doing: string,
    act: (update: (text: string) => void) => Promise<Outcome<T>>,
    options: { readonly quiet?: boolean } = {},
  ): Promise<T> {
    const started = this.#clock.monotonic();
    if (options.quiet === true) this.#terminal.say(`  ${doing} …`);
    const shown = options.quiet === true ? undefined : this.#terminal.step(doing);
    const update = (text: string): void => shown?.update(`${doing}: ${text.slice(0, DOING_CHARS_MAX)}`);
    try {
      const { value, detail, skipped } = await act(update);
      this.results.push({ name, seconds: this.#since(started), ...(skipped ? { skipped } : {}), detail });
      const done = `${name}: ${detail}`;
      if (shown === undefined) this.#terminal.step(done).done();
      else shown.done(done);
      return value;
    } catch (error) {
      shown?.fail(`${name}: ${doing}`);
      throw this.#explain(name, error);
    }
  }

  #since(started: number): number {
    return Math.round((this.#clock.monotonic() - started) / 100) / 10;
  }

  #explain(name: string, error: unknown): unknown {
    if (!isBureauError(error) && !(error instanceof InputError) && !(error instanceof RefError)) return error;
    const code: ErrorCode = isBureauError(error) ? error.code : "invalid-input";
    const first = isBureauError(error) && error.hint !== "" ? `${error.hint}; then ` : "";
    return new BureauError(code, `The step "${name}" failed: ${messageOf(error)}`, {
      hint: `${first}continue with: ${this.#again}`,
    });
  }
}
