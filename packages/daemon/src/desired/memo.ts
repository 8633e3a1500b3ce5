/**
 * Results of a pure function, each kept with the inputs that it was computed from. An input that is another object means
 * that the result is computed again, and the function sees nothing but its inputs: a kept result is never stale.
 *
 * Keeps the keys of one round, no others: its size is that of the configuration.
 */

type Inputs = Readonly<Record<string, unknown>>;
type Kept<Result> = { readonly inputs: Inputs; readonly result: Result };

export class Memo<Key, Result> {
  #last = new Map<Key, Kept<Result>>();
  #round = new Map<Key, Kept<Result>>();
  #computed = 0;

  /** How often a result was computed. */
  get computed(): number {
    return this.#computed;
  }

  /** `compute` depends on `inputs` alone. The result is the same object as before while every input is. */
  of<const Given extends Inputs>(key: Key, inputs: Given, compute: (inputs: Given) => Result): Result {
    const before = this.#round.get(key) ?? this.#last.get(key);
    if (before !== undefined && areSame(before.inputs, inputs)) {
      this.#round.set(key, before);
      return before.result;
    }
    this.#computed++;
    const result = compute(inputs);
    this.#round.set(key, { inputs, result });
    return result;
  }

  /** Forgets the keys that were not asked for since the last call. */
  endRound(): void {
    this.#last = this.#round;
    this.#round = new Map();
  }
}

function areSame(before: Inputs, inputs: Inputs): boolean {
  for (const name in inputs) if (before[name] !== inputs[name]) return false;
  return true;
}
