/** Serialises what changes one principal; different principals do not wait for each other. */
export class PrincipalLock {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Runs `act` after everything asked for earlier under the same key has ended, however it ended. */
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

  /** Resolves when nothing that was asked for before this call is under way. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}
