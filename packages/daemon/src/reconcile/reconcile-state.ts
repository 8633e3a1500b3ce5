/**
 * What the daemon remembers about principals between two passes. Only completion must survive the daemon and a reboot,
 * so only completion is on disk. It is written before the launcher's record of the exit is cleared: after a crash
 * between the two the daemon sees the exit twice, and never misses it.
 */
import { BureauError } from "@bureau/kit/errors";
import { readIfPresent, writeDurably } from "@bureau/os/durable-file";
import { decodeState, encodeState, isTooNew } from "@bureau/os/state-format";
import { type PrincipalName, parsePrincipalName } from "@bureau/schema/refs";
import * as v from "valibot";
import type { GoodSpec } from "./spec-history.ts";

const CompletionSchema = v.object({
  /** Digests of the program and payload that ran: with others it is other work. */
  structure: v.string(),
  payload: v.string(),
  /** Exit code, as in the launcher's records. */
  code: v.number(),
  /** Milliseconds since the epoch. */
  at: v.number(),
});
/** Work that ended and that its restart policy does not restart. */
export type Completion = v.InferOutput<typeof CompletionSchema>;

const StateFileSchema = v.object({ completed: v.record(v.string(), CompletionSchema) });

/** A count of failures in a row, and when the next try is due (milliseconds, monotonic clock). */
export type Attempts = { readonly failures: number; readonly retryAt: number };
export const noAttempts: Attempts = { failures: 0, retryAt: 0 };

/** A sandbox that ran longer than this is not in a crash loop: earlier failures no longer count. */
export const STABLE_MS = 60_000;

export type PrincipalState = {
  /** Starts that failed or ended soon, of the configuration `key` names. */
  readonly starts: Attempts & { readonly key: string };
  /**
   * Starts of the configuration `key` names that failed for good, or ended in failure or too soon: see `rollback.ts`.
   */
  readonly trial: { readonly key: string; readonly failures: number };
  /** The configuration that the launcher refused. */
  readonly refused?: { readonly key: string; readonly reason: string };
  /** The configuration that was started last; unknown after a restart of the daemon. */
  readonly ran?: GoodSpec;
  /** Why the last start failed, or why the last run ended, for a person. */
  readonly lastError?: string;
  /** Restarts of its proxy; `at` is when the last one was. */
  readonly proxy: Attempts & { readonly at: number };
  /** Other requests that the launcher or the proxy failed. */
  readonly trouble: Attempts;
  /** Times it was started again since this daemon began. */
  readonly restarts: number;
  /** This daemon started it, or found it running. */
  readonly known: boolean;
  /** Stopped in order to start with another configuration. */
  readonly changing: boolean;
  /** Time of the exit that was already handled, although the launcher still has its record. */
  readonly collectedExitAt?: number;
  /** Digest of the grants that its proxy has; unknown after a restart of the daemon. */
  readonly grants?: string;
};

export const freshState: PrincipalState = {
  starts: { ...noAttempts, key: "" },
  trial: { key: "", failures: 0 },
  proxy: { ...noAttempts, at: 0 },
  trouble: noAttempts,
  restarts: 0,
  known: false,
  changing: false,
};

/** The file of completions. */
export type CompletionFile = {
  read(): string | undefined;
  write(text: string): void;
};

export const completionFile = (path: string): CompletionFile => ({
  read: () => readIfPresent(path),
  write: (text) => writeDurably(path, text, 0o600),
});

export class ReconcileState {
  readonly #file: CompletionFile;
  readonly #completed: Map<PrincipalName, Completion>;
  readonly #principals = new Map<PrincipalName, PrincipalState>();

  /** @throws BureauError when the file is there and cannot be read: guessing would run finished work again */
  constructor(file: CompletionFile) {
    this.#file = file;
    const text = file.read();
    try {
      const state =
        text === undefined
          ? undefined
          : decodeState("completions", StateFileSchema, text, "the daemon's state file");
      this.#completed = new Map(
        Object.entries(state?.completed ?? {}).map(([name, done]) => [parsePrincipalName(name), done]),
      );
    } catch (error) {
      if (isTooNew(error)) throw error;
      throw new BureauError("invalid-input", "Cannot tell which principals have completed their work", {
        cause: error,
        hint: "remove daemon-state.json in the state folder; completed principals will then run once more",
      });
    }
  }

  of(account: PrincipalName): PrincipalState {
    return this.#principals.get(account) ?? freshState;
  }

  completion(account: PrincipalName): Completion | undefined {
    return this.#completed.get(account);
  }

  has(account: PrincipalName): boolean {
    return this.#principals.has(account) || this.#completed.has(account);
  }

  accounts(): PrincipalName[] {
    return [...new Set([...this.#principals.keys(), ...this.#completed.keys()])];
  }

  update(account: PrincipalName, change: Partial<PrincipalState>): void {
    this.#principals.set(account, { ...this.of(account), ...change });
  }

  replace(account: PrincipalName, memory: PrincipalState): void {
    this.#principals.set(account, memory);
  }

  /** Durable when it returns. */
  complete(account: PrincipalName, completion: Completion): void {
    this.#completed.set(account, completion);
    this.#save();
  }

  /** Its work may run again. */
  uncomplete(account: PrincipalName): void {
    if (this.#completed.delete(account)) this.#save();
  }

  forget(account: PrincipalName): void {
    this.#principals.delete(account);
    this.uncomplete(account);
  }

  #save(): void {
    this.#file.write(encodeState("completions", { completed: Object.fromEntries(this.#completed) }));
  }
}
