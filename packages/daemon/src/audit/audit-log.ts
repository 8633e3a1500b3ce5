/**
 * What enters the audit log. Equal acts within a minute are one event with their count, so that a sandbox that repeats a
 * denied act does not flood the room. The first count ends after {@link QUIET_MS} without an equal act. A count that begins
 * again within the minute lasts until the minute ends. An actor that is denied many kinds of acts in a minute has the rest
 * counted in one event, and so have all actors together.
 *
 * An act that is sensitive and allowed is on the disk before it happens: when it cannot be recorded, it is refused. A
 * denial does not depend on its record. The log counts denials that it cannot record, and records the count with the next.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import type { AuditRecord } from "@bureau/schema/audit";
import type { AuditFile, GrantStep, OpenCount } from "./audit-file.ts";

const QUIET_MS = 2_000;
const WINDOW_MS = 60_000;
/** Kinds of acts of one actor that begin a count within a minute. */
const KINDS_MAX = 20;
/** Counts that are open at the same time. */
const OPEN_MAX = 256;

type Counting = {
  readonly open: OpenCount;
  readonly beganAt: number;
  /** It came again within the minute: counted until then. */
  readonly heldUntil: number;
  lastAt: number;
};

/** Acts that another program counted. A batch has equal acts once. A batch that comes again during the same count is not counted again. */
export type Counted = {
  readonly count: number;
  readonly first: string;
  readonly last: string;
  readonly batch: string;
};

export type AuditLogDeps = {
  readonly file: AuditFile;
  readonly clock: Clock;
  readonly log: Log;
  /** There is something to send, or a count to end at another time. */
  readonly onChange: () => void;
};

export class AuditLog {
  readonly #deps: AuditLogDeps;
  readonly #counting = new Map<string, Counting>();
  /** When a count of these acts ended, within the last minute. */
  readonly #ended = new Map<string, number>();
  /** Kinds that each actor began within the minute that began then. */
  readonly #kinds = new Map<string, { readonly since: number; count: number }>();
  /** Denials that the disk did not take. */
  #unrecorded = 0;

  /** Continues the counts of the program before. */
  constructor(deps: AuditLogDeps) {
    this.#deps = deps;
    const now = deps.clock.monotonic();
    for (const open of deps.file.counting)
      this.#counting.set(keyOf(open.record), { open, beganAt: now, heldUntil: 0, lastAt: now });
  }

  /** Denials that are not in the log, because it could not be written. */
  get unrecorded(): number {
    return this.#unrecorded;
  }

  /** How many counts are open. */
  get counting(): number {
    return this.#counting.size;
  }

  /** Never fails: the act is denied in any case. */
  denied(record: AuditRecord, counted?: Counted): void {
    try {
      if (this.#unrecorded > 0) this.#recordLost(record);
      this.#count(record, counted);
    } catch (error) {
      if (this.#unrecorded === 0)
        this.#deps.log.error("audit.unwritable", "denials cannot be recorded; they are counted", { error });
      this.#unrecorded += counted?.count ?? 1;
    }
  }

  /** @throws BureauError when it cannot be recorded: then the act must not happen */
  allowed(record: AuditRecord): void {
    this.#count(record);
    this.#deps.file.syncNow();
  }

  /** A fact that is never counted together with others. @throws BureauError when it cannot be recorded */
  happened(record: AuditRecord, grant?: GrantStep): void {
    this.#deps.file.append(record, this.#time(), grant);
    this.#deps.onChange();
  }

  /** When the next count ends, on the monotonic clock; undefined without one. */
  get dueAt(): number | undefined {
    let due: number | undefined;
    for (const one of this.#counting.values()) due = Math.min(due ?? Number.POSITIVE_INFINITY, dueOf(one));
    return due;
  }

  /** Ends the counts that are due, or all of them: each becomes an event. @throws BureauError when the disk does not take it */
  endCounts(all = false): void {
    const now = this.#deps.clock.monotonic();
    for (const [key, one] of this.#counting) {
      if (!all && dueOf(one) > now) continue;
      this.#deps.file.close(one.open);
      this.#counting.delete(key);
      this.#ended.set(key, now);
    }
    forget(this.#ended, (at) => now - at >= WINDOW_MS);
    forget(this.#kinds, ({ since }) => now - since >= WINDOW_MS);
  }

  #count(record: AuditRecord, counted?: Counted): void {
    const { file, clock, onChange } = this.#deps;
    const now = clock.monotonic();
    const time = this.#time();
    const exact = keyOf(record);
    const [key, kept] = this.#counting.has(exact) ? [exact, record] : this.#place(exact, record, now);
    const known = this.#counting.get(key);
    if (known !== undefined) {
      if (counted !== undefined && key === exact && known.open.batch === counted.batch) return;
      file.count(known.open, counted?.count ?? 1, counted?.last ?? time, counted?.batch);
      known.lastAt = now;
      return;
    }
    const open = file.begin(kept, counted?.first ?? time, counted?.batch);
    if (counted !== undefined && counted.count > 1) file.count(open, counted.count - 1, counted.last);
    const ended = this.#ended.get(key);
    const heldUntil = ended === undefined ? 0 : ended + WINDOW_MS;
    this.#counting.set(key, { open, beganAt: now, heldUntil, lastAt: now });
    onChange();
  }

  /** Where acts that no open count is for are counted: by themselves, with the actor's others, or with all others. */
  #place(exact: string, record: AuditRecord, now: number): readonly [key: string, record: AuditRecord] {
    if (this.#counting.size >= OPEN_MAX) return others({ ...record, actor: "*" });
    if (this.#ended.has(exact)) return [exact, record];
    let kinds = this.#kinds.get(record.actor);
    if (kinds === undefined || now - kinds.since >= WINDOW_MS) {
      kinds = { since: now, count: 0 };
      this.#kinds.set(record.actor, kinds);
    }
    return ++kinds.count > KINDS_MAX ? others(record) : [exact, record];
  }

  #recordLost(record: AuditRecord): void {
    const { decision, enforcement_point, machine } = record;
    this.#deps.file.append(
      {
        decision,
        actor: "*",
        action: "**",
        target: "",
        reason: `${this.#unrecorded} denials could not be recorded: the audit log could not be written`,
        enforcement_point,
        machine,
      },
      this.#time(),
    );
    this.#unrecorded = 0;
  }

  #time(): string {
    return new Date(this.#deps.clock.now()).toISOString();
  }
}

const dueOf = ({ beganAt, lastAt, heldUntil }: Counting): number =>
  Math.max(Math.min(lastAt + QUIET_MS, beganAt + WINDOW_MS), heldUntil);

/** Acts are equal when these are; `detail` is that of the first. */
const keyOf = ({
  decision,
  actor,
  action,
  target,
  reason,
  enforcement_point: point,
  ticket,
}: AuditRecord): string => JSON.stringify([decision, actor, action, target, reason, point, ticket]);

function others({ decision, actor, enforcement_point, machine }: AuditRecord) {
  const reason = `other acts: more than ${KINDS_MAX} kinds within a minute`;
  const record = { decision, actor, action: "**", target: "", reason, enforcement_point, machine };
  return [keyOf(record), record] as const;
}

function forget<Key, Value>(map: Map<Key, Value>, isOld: (value: Value) => boolean): void {
  for (const [key, value] of map) if (isOld(value)) map.delete(key);
}
