/**
 * Records when a temporal grant begins to count, is revoked, and has expired: each once, also over restarts, because the
 * audit file knows which grants have begun. A grant that is past when it is first seen never began here.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import { digestOf } from "@bureau/os/digest";
import type { AuditRecord } from "@bureau/schema/audit";
import { expiryOf, type Grant } from "@bureau/schema/authorization";
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import type { UserId } from "@bureau/schema/refs";
import type { GrantStep } from "./audit-file.ts";
import { cut, ruleShown } from "./record-of.ts";

/** Until an end that could not be recorded is tried again. */
const RETRY_MS = 30_000;

type GrantRecord = Omit<AuditRecord, "machine">;

export type GrantLifecycleDeps = {
  /** Grants that began and have not ended, by key. */
  readonly known: () => ReadonlyMap<string, GrantRecord>;
  /** @throws BureauError when it cannot be recorded */
  readonly happened: (record: GrantRecord, step: GrantStep) => void;
  readonly clock: Clock;
  readonly log: Log;
};

export class GrantLifecycle {
  readonly #deps: GrantLifecycleDeps;
  #failedAt: number | undefined;

  constructor(deps: GrantLifecycleDeps) {
    this.#deps = deps;
  }

  /** Never throws: what cannot be recorded now is recorded at a later call. */
  update(index: AuthorizationIndex): void {
    const { known, clock } = this.#deps;
    const now = clock.now();
    const current = new Map<string, GrantRecord>();
    for (const [user, policies] of index.policiesFrom("temporal"))
      for (const { grants = [] } of policies)
        for (const grant of grants) current.set(keyOf(user, grant), begun(user, grant));
    for (const [key, record] of current)
      if (!known().has(key) && expiryOf(record) > now) this.#record(record, { begins: key });
    for (const [key, record] of known())
      if (!current.has(key) && expiryOf(record) > now)
        this.#record({ ...record, decision: "grant_revoked" }, { ends: key });
    this.expire();
  }

  /** Records the grants that have expired. */
  expire(): void {
    const { known, clock } = this.#deps;
    for (const [key, record] of known())
      if (expiryOf(record) <= clock.now())
        this.#record({ ...record, decision: "grant_expired" }, { ends: key });
  }

  /** When the next grant expires, on the monotonic clock; undefined without one. */
  get dueAt(): number | undefined {
    const { known, clock } = this.#deps;
    const ends = [...known().values()].map(expiryOf).filter(Number.isFinite);
    if (ends.length === 0) return undefined;
    const due = clock.monotonic() + Math.max(0, Math.min(...ends) - clock.now());
    return this.#failedAt === undefined ? due : Math.max(due, this.#failedAt + RETRY_MS);
  }

  #record(record: GrantRecord, step: GrantStep): void {
    const { happened, clock, log } = this.#deps;
    try {
      happened(record, step);
      this.#failedAt = undefined;
    } catch (error) {
      if (this.#failedAt === undefined)
        log.error("audit.unwritable", "the beginning or end of a grant cannot be recorded yet", { error });
      this.#failedAt = clock.monotonic();
    }
  }
}

/** A changed grant is another one: the old one is revoked. */
const keyOf = (user: UserId, grant: Grant): string => digestOf([user, grant]);

function begun(user: UserId, grant: Grant): GrantRecord {
  return {
    decision: "grant_created",
    actor: cut(grant.granted_by ?? ""),
    action: cut(grant.actions.join(", ")),
    target: user,
    enforcement_point: "daemon/authorization",
    matched_grant: ruleShown(grant),
    ...(grant.ticket === undefined ? {} : { ticket: cut(grant.ticket) }),
    ...(grant.expires_at === undefined ? {} : { expires_at: cut(grant.expires_at) }),
  };
}
