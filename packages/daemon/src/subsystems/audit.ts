/** The audit log: what was decided on this machine, on its way to the config room. */
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import { waitFor } from "@bureau/kit/wait-for";
import { auditFile } from "@bureau/os/layout";
import type { AuditRecord, ChainHead } from "@bureau/schema/audit";
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { loopAfter } from "../assembly/loop-after.ts";
import { subsystem } from "../assembly/subsystem.ts";
import { AuditFile } from "../audit/audit-file.ts";
import { AuditLog, type Counted } from "../audit/audit-log.ts";
import { AuditSender } from "../audit/audit-sender.ts";
import { GrantLifecycle } from "../audit/grant-lifecycle.ts";
import { recordOf } from "../audit/record-of.ts";
import type { DecisionRecord } from "../authorization/authorize.ts";
import { Wakeup } from "../wakeup.ts";

/** For events on their way when the machine leaves. */
const SEND_MS_MAX = 5_000;
/** Until a disk that did not take a count is tried again. */
const RETRY_MS = 5_000;

export type Audit = {
  /** A decision on an attempted act. @throws BureauError when a sensitive act that is allowed cannot be recorded */
  readonly record: (record: DecisionRecord) => void;
  /** Acts that were denied elsewhere on this machine, for example in a proxy. Never fails. */
  readonly denied: (record: Omit<AuditRecord, "machine" | "decision">, counted: Counted) => void;
  /** The rules as they are now: records temporal grants that began, were revoked, or have expired. Never fails. */
  readonly grantsNow: (index: AuthorizationIndex) => void;
  /** The last event that the homeserver has; undefined before the first. */
  readonly sentHead: () => ChainHead | undefined;
  /** Sends what waits, within a limited time. Never rejects. */
  readonly flush: () => Promise<void>;
};

export const audit = subsystem({
  name: "audit",
  needs: {},
  start(_needs: object, { config, session, userId: machine, hub, clock, random, log }) {
    const file = new AuditFile(auditFile(config.layout), { machine, log });
    const counts = new Wakeup(clock);
    const sender = new AuditSender({ file, session, clock, random, log });
    const changed = (): void => {
      counts.mark();
      sender.mark();
    };
    const auditLog = new AuditLog({ file, clock, log, onChange: changed });
    const lifecycle = new GrantLifecycle({
      known: () => file.grants,
      happened: (record, step) => auditLog.happened({ ...record, machine }, step),
      clock,
      log,
    });
    const part: Audit = {
      record(decided) {
        const record = recordOf(decided, machine);
        if (record === undefined) return;
        if (decided.decision.allowed) auditLog.allowed(record);
        else auditLog.denied(record);
      },
      denied: (record, counted) => auditLog.denied({ ...record, decision: "deny", machine }, counted),
      grantsNow(index) {
        lifecycle.update(index);
        counts.mark();
      },
      sentHead: () => (file.sent.sequence === 0 ? undefined : file.sent),
      async flush() {
        tryToEnd(auditLog, log, true);
        sender.mark();
        const isSent = async () => (file.hasUnsent ? undefined : true);
        await waitFor(isSent, { timeoutMs: SEND_MS_MAX, clock });
      },
    };
    const joined = hub.next("rooms.joined");
    return {
      part,
      loops: [
        (signal) =>
          endCounts({ auditLog, lifecycle, counts, clock, log, onEnd: () => sender.mark() }, signal),
        loopAfter(joined, (rooms, signal) => sender.run(rooms.config, signal)),
      ],
      views: {
        state: () => ({
          head: file.head,
          sent: file.sent.sequence,
          counting: auditLog.counting,
          unrecorded: auditLog.unrecorded,
          bytes: file.bytes,
          full: file.isFull,
        }),
      },
    };
  },
});

type Ending = {
  readonly auditLog: AuditLog;
  readonly lifecycle: GrantLifecycle;
  readonly counts: Wakeup;
  readonly clock: Clock;
  readonly log: Log;
  readonly onEnd: () => void;
};

/** Ends each count, and records the end of each grant, when it is due. */
async function endCounts(
  { auditLog, lifecycle, counts, clock, log, onEnd }: Ending,
  signal: AbortSignal,
): Promise<void> {
  signal.addEventListener("abort", () => counts.mark(), { once: true });
  while (!signal.aborted) {
    lifecycle.expire();
    const ended = tryToEnd(auditLog, log);
    if (ended) onEnd();
    await counts.wait(ended ? earlier(auditLog.dueAt, lifecycle.dueAt) : clock.monotonic() + RETRY_MS);
  }
}

/** False when the disk did not take it: the counts stay open. */
function tryToEnd(auditLog: AuditLog, log: Log, all = false): boolean {
  try {
    auditLog.endCounts(all);
    return true;
  } catch (error) {
    log.error("audit.unwritable", "the audit log cannot be written; counts stay open", { error });
    return false;
  }
}

const earlier = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
