/**
 * The last configuration of each principal that worked, and a later one that failed. It survives the daemon and a
 * reboot: otherwise every daemon that starts would retry a failed configuration. One file a principal, because a record
 * holds a whole sandbox spec and changes seldom.
 *
 * A decision holds in memory at once, also when it cannot be written to disk.
 */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "@bureau/kit/log";
import { readIfPresent, removeDurably, writeDurably } from "@bureau/os/durable-file";
import { decodeState, encodeState, isTooNew } from "@bureau/os/state-format";
import { SandboxSpecSchema } from "@bureau/schema/launcher-ipc";
import { type PrincipalName, parsePrincipalName } from "@bureau/schema/refs";
import { HealthCheckSchema } from "@bureau/schema/template";
import * as v from "valibot";

/** A configuration that worked, as far as is known. Without credentials: a rollback uses the current ones. */
const GoodSpecSchema = v.object({
  /** Digests, as in `digests.ts`. */
  structure: v.string(),
  payload: v.string(),
  spec: SandboxSpecSchema,
  healthCheck: v.optional(HealthCheckSchema),
  /** It passed its health check, or ran for a while; otherwise it was only running when the assignment changed. */
  proved: v.boolean(),
});
export type GoodSpec = v.InferOutput<typeof GoodSpecSchema>;

/** A configuration that failed, after a previous one had worked. */
const RejectionSchema = v.object({
  /** Its key: see `keyOf`. Ignored once another one is assigned. */
  key: v.string(),
  reason: v.string(),
  /** An event message has reported that the previous one runs again. */
  announced: v.boolean(),
});
export type Rejection = v.InferOutput<typeof RejectionSchema>;

const RecordSchema = v.object({
  good: v.optional(GoodSpecSchema),
  rejected: v.optional(RejectionSchema),
});
export type SpecRecord = { readonly good?: GoodSpec | undefined; readonly rejected?: Rejection | undefined };

const nothing: SpecRecord = {};

/** The folder of records. */
export type HistoryFiles = {
  read(): Iterable<readonly [name: string, text: string]>;
  write(account: PrincipalName, text: string): void;
  remove(account: PrincipalName): void;
};

export function historyFiles(folder: string): HistoryFiles {
  const suffix = ".json";
  const pathOf = (account: PrincipalName): string => join(folder, `${account.replaceAll("/", "+")}${suffix}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return {
    read: () =>
      readdirSync(folder)
        .filter((name) => name.endsWith(suffix))
        .map((name) => [
          name.slice(0, -suffix.length).replaceAll("+", "/"),
          readIfPresent(join(folder, name)) ?? "",
        ]),
    write: (account, text) => writeDurably(pathOf(account), text, 0o600),
    remove: (account) => removeDurably(pathOf(account)),
  };
}

export class SpecHistory {
  readonly #files: HistoryFiles;
  readonly #records = new Map<PrincipalName, SpecRecord>();

  /**
   * An unreadable record is left out: a rollback is then impossible, and nothing else is lost.
   * @throws BureauError when one is of a format that this build does not know
   */
  constructor(files: HistoryFiles, log: Log) {
    this.#files = files;
    for (const [name, text] of files.read())
      try {
        const { good, rejected } = decodeState(
          "spec-history",
          RecordSchema,
          text,
          `the history of "${name}"`,
        );
        this.#records.set(parsePrincipalName(name), { good, rejected });
      } catch (error) {
        if (isTooNew(error)) throw error;
        log.warn(
          "history.unreadable",
          "cannot read a principal's previous configuration; it cannot be rolled back",
          {
            name,
            error,
          },
        );
      }
  }

  of(account: PrincipalName): SpecRecord {
    return this.#records.get(account) ?? nothing;
  }

  accounts(): PrincipalName[] {
    return [...this.#records.keys()];
  }

  /** This configuration works: a later one that fails is rolled back to it. */
  keep(account: PrincipalName, good: GoodSpec): void {
    this.#save(account, { ...this.of(account), good });
  }

  /** This configuration failed. */
  reject(account: PrincipalName, rejected: Rejection): void {
    this.#save(account, { ...this.of(account), rejected });
  }

  /** Neither the rejected configuration nor the previous one works: only the assigned one is left to try. */
  giveUp(account: PrincipalName): void {
    this.forget(account);
  }

  /** Another configuration is assigned, so the rejected one may be tried again. */
  readmit(account: PrincipalName): void {
    this.#save(account, { good: this.of(account).good });
  }

  forget(account: PrincipalName): void {
    if (this.#records.delete(account)) this.#files.remove(account);
  }

  #save(account: PrincipalName, record: SpecRecord): void {
    this.#records.set(account, record);
    this.#files.write(account, encodeState("spec-history", record));
  }
}
