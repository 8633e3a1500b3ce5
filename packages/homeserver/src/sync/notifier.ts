/** Long polls that wait for news, by user. A wake-up resolves at once; the only timers are their timeouts. */

type Waiter = { readonly deviceId: string; readonly wake: () => void };

export class Notifier {
  readonly #waiters = new Map<string, Set<Waiter>>();
  #closed = false;

  /** Users with waiting long polls. */
  get waitingUsers(): Iterable<string> {
    return this.#waiters.keys();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves when the user has news, after `timeoutMs`, when `signal` aborts, or when the server stops. */
  wait(who: { userId: string; deviceId: string }, timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (this.#closed || signal.aborted || timeoutMs <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const set = this.#waiters.get(who.userId) ?? new Set();
      this.#waiters.set(who.userId, set);
      const wake = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", wake);
        set.delete(waiter);
        if (set.size === 0 && this.#waiters.get(who.userId) === set) this.#waiters.delete(who.userId);
        resolve();
      };
      const waiter = { deviceId: who.deviceId, wake };
      const timer = setTimeout(wake, timeoutMs);
      signal.addEventListener("abort", wake, { once: true });
      set.add(waiter);
    });
  }

  /** Wakes the user's long polls, or only those of one device. */
  wake(userId: string, deviceId?: string): void {
    for (const waiter of [...(this.#waiters.get(userId) ?? [])]) {
      if (deviceId === undefined || waiter.deviceId === deviceId) waiter.wake();
    }
  }

  /** Wakes all long polls. Later ones return at once. */
  close(): void {
    this.#closed = true;
    for (const userId of [...this.#waiters.keys()]) this.wake(userId);
  }
}
