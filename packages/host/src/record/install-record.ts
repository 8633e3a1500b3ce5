/**
 * What Bureau made on this host: /etc/bureau/installed.json. An entry is durable before the act that it is about, so an
 * uninstall knows everything that was made, also when the doctor was killed. An entry about a thing that was never made
 * does no harm. Only root can write the record, because an uninstall removes exactly what the record says.
 *
 * The first entry about a thing stays: it says what was there before Bureau.
 */
import { writeDurably } from "@bureau/os/durable-file";
import { type EntryBase, type FieldsOf, type Identified, keyOf } from "./entry.ts";

export type RecordOptions = {
  readonly path: string;
  readonly entries: readonly EntryBase[];
  /** The key of an entry of any kind. */
  readonly keyOfEntry: (entry: EntryBase) => string;
  readonly now: () => Date;
};

export class InstallRecord {
  readonly #path: string;
  readonly #now: () => Date;
  readonly #keyOfEntry: (entry: EntryBase) => string;
  #entries: EntryBase[];

  constructor({ path, entries, keyOfEntry, now }: RecordOptions) {
    this.#path = path;
    this.#entries = [...entries];
    this.#keyOfEntry = keyOfEntry;
    this.#now = now;
  }

  get entries(): readonly EntryBase[] {
    return this.#entries;
  }

  /** The entry of that kind about `id`. */
  find<E>(kind: Identified<E>, id: string): E | undefined {
    const entry = this.#withKey(keyOf(kind, id));
    return entry !== undefined && kind.isOf(entry) ? entry : undefined;
  }

  /** The entry as the record has it now; undefined when it was forgotten. */
  current(entry: EntryBase): EntryBase | undefined {
    return this.#withKey(this.#keyOfEntry(entry));
  }

  /** Notes what is about to be done, unless an entry is about the same thing. Durable when it returns. */
  intend<E>(kind: Identified<E>, fields: FieldsOf<E>): void {
    if (this.#withKey(keyOf(kind, kind.idOf(fields))) !== undefined) return;
    this.#entries.push({ kind: kind.kind, ...fields, at: this.#now().toISOString() });
    this.#write();
  }

  /** Replaces the facts of an entry. */
  update<E extends EntryBase>(entry: E): void {
    const key = this.#keyOfEntry(entry);
    this.#entries = this.#entries.map((known) => (this.#keyOfEntry(known) === key ? entry : known));
    this.#write();
  }

  /** Removes the entry: the thing is gone. */
  forget(entry: EntryBase): void {
    const key = this.#keyOfEntry(entry);
    this.#entries = this.#entries.filter((known) => this.#keyOfEntry(known) !== key);
    this.#write();
  }

  #withKey(key: string): EntryBase | undefined {
    return this.#entries.find((entry) => this.#keyOfEntry(entry) === key);
  }

  #write(): void {
    const text = `${JSON.stringify({ version: 1, entries: this.#entries }, null, 2)}\n`;
    writeDurably(this.#path, text, 0o644);
  }
}
