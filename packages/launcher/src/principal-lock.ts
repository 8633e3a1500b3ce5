/** Runs changes of one principal one after another; changes of different principals run concurrently. */
export class PrincipalLock {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Runs `act` after every earlier call with the same key has ended, also with an error. */
  run<T>(key: string, act: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const result = before.then(act, act);
    const tail = result.then(
      () => {},
      () => {},
    );
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }

  /** Resolves when every earlier call has ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}
