/**
 * Turns for work that blocks the event loop: one caller at a time, in order. Between two turns the event loop runs other
 * requests, sends what was answered, and learns which clients disconnected.
 */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** Resolves when it is the caller's turn. The turn ends when the caller yields to the event loop. */
  take(): Promise<void> {
    const turn = this.#last;
    this.#last = turn.then(() => new Promise((resolve) => setImmediate(resolve)));
    return turn;
  }
}
