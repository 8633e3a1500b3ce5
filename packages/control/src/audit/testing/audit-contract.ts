/** Audit events in a real room: read across pages, and verified after each way of tampering. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chained } from "@bureau/kit/audit-chain";
import type { AuditRecord, ChainedAudit, ChainHead } from "@bureau/schema/audit";
import { eventTypes } from "@bureau/schema/events";
import {
  type EventId,
  fleetOf,
  localpartOf,
  parseMachine,
  parsePrincipal,
  serverOf,
  userIdOf,
} from "@bureau/schema/refs";
import { sha256Hex } from "../../digest.ts";
import { type SmallFleet, type StartHomeserver, startSmallFleet } from "../../testing/small-fleet.ts";
import { type AuditEntry, followAudit, readAudit } from "../read-audit.ts";
import { verifyAudit } from "../verify-audit.ts";

let fleet: SmallFleet;

const first: ChainHead = { chain: "0123456789abcdef", sequence: 0, hash: "" };

/** The next events of a chain, not sent. */
function make(count: number, from: ChainHead = first, more: Partial<AuditRecord> = {}): ChainedAudit[] {
  const made: ChainedAudit[] = [];
  for (let head = from; made.length < count; ) {
    const time = new Date(Date.UTC(2026, 10, 1) + (head.sequence + 1) * 1_000).toISOString();
    const record: AuditRecord = {
      decision: "deny",
      actor: "@a:s",
      action: "observe",
      target: "",
      enforcement_point: "daemon/observe",
      machine: fleet.own.userId,
      ...more,
    };
    const event = chained(record, { time, count: 1 }, head, sha256Hex);
    made.push(event);
    head = event;
  }
  return made;
}

async function send(events: readonly object[]): Promise<EventId[]> {
  const ids: EventId[] = [];
  for (const event of events) ids.push(await fleet.own.sendEvent(fleet.place.room, eventTypes.audit, event));
  return ids;
}

async function redact(event: EventId): Promise<void> {
  const { session, place } = fleet;
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(place.room)}/redact/${encodeURIComponent(event)}/t`;
  const done = await fleet.asAdministrator("PUT", path, { reason: "hide it" });
  expect([done.status, session.userId]).toEqual([200, session.userId]);
}

const query = (more: object = {}) => ({
  fleet: fleetOf(parseMachine(localpartOf(fleet.own.userId))),
  limit: 50,
  ...more,
});
const numbers = (entries: readonly AuditEntry[]) => entries.map(({ sequence }) => sequence);

function reading(): void {
  test("the newest events of every machine in one request", async () => {
    await send(make(60));
    const before = fleet.requests.length;
    const { entries } = await readAudit(fleet.session, query());
    expect(fleet.requests.length - before).toBe(1);
    expect(numbers(entries)).toEqual(Array.from({ length: 50 }, (_, n) => n + 11));
    expect(entries[0]).toMatchObject({ machine: fleet.machine, actor: "@a:s", count: 1 });
  });

  test("older events of one principal, in pages", async () => {
    const user = userIdOf(parsePrincipal(fleet.principal("demo")), serverOf(fleet.own.userId));
    const [own] = make(1, first, { actor: user });
    const rest = make(150, own);
    await send([own as ChainedAudit, ...rest]);
    const before = fleet.requests.length;
    const { entries } = await readAudit(fleet.session, query({ principal: user, machine: fleet.machine }));
    expect(numbers(entries)).toEqual([1]);
    expect(fleet.requests.length - before).toBeLessThanOrEqual(5);
    const since = Date.parse(rest.at(-1)?.time ?? "");
    expect(numbers((await readAudit(fleet.session, query({ since, limit: 50_000 }))).entries)).toEqual([151]);
  });

  test("events as they come, and none that another user wrote", async () => {
    const { position } = await readAudit(fleet.session, query());
    const stop = new AbortController();
    const seen: AuditEntry[] = [];
    const following = followAudit(
      fleet.session,
      query(),
      position,
      (entries) => {
        seen.push(...entries);
        if (seen.length === 3) stop.abort();
      },
      stop.signal,
    );
    await fleet.session.sendEvent(fleet.place.room, eventTypes.audit, make(1)[0]);
    await send(make(3));
    await following;
    expect(numbers(seen)).toEqual([1, 2, 3]);
  });
}

function verifying(): void {
  const faults = async (heads: readonly ChainHead[] = []) =>
    (await verifyAudit(fleet.session, fleet.machine, heads)).findings.map(
      ({ fault, sequence }) => `${fault} ${sequence}`,
    );

  test("a whole chain of several pages, a page a request", async () => {
    const events = make(520);
    await send(events);
    const before = fleet.requests.length;
    const verified = await verifyAudit(fleet.session, fleet.machine, [events.at(-1) as ChainedAudit]);
    expect(verified).toMatchObject({ findings: [], events: 520, chains: 1 });
    expect(fleet.requests.length - before).toBeLessThanOrEqual(5);
  });

  test("a redaction by the administrator", async () => {
    const ids = await send(make(4));
    expect(await faults()).toEqual([]);
    await redact(ids[1] as EventId);
    expect(await faults()).toEqual(["redacted 1"]);
  });

  test("a gap, a fork, another order, a repetition, an edit and a missing end", async () => {
    const [a, b, c, d, e] = make(5) as [ChainedAudit, ChainedAudit, ChainedAudit, ChainedAudit, ChainedAudit];
    const [other] = make(1, a, { actor: "@other:s" }) as [ChainedAudit];
    await send([a, b, other, d, c, d, { ...e, actor: "@edited:s" }]);
    expect(await faults([{ ...e, sequence: 9 }])).toEqual([
      "fork 2",
      "gap 4",
      "reordered 3",
      "repeated 4",
      "edited 5",
      "tail-missing 4",
    ]);
  });

  test("no event that another user wrote in the machine's room", async () => {
    const [a, b] = make(2) as [ChainedAudit, ChainedAudit];
    await send([a]);
    await fleet.session.sendEvent(fleet.place.room, eventTypes.audit, { ...b, actor: "@forged:s" });
    await send([b]);
    expect(await verifyAudit(fleet.session, fleet.machine, [])).toMatchObject({
      findings: [],
      events: 2,
    });
  });
}

/** Defines the tests for one homeserver. */
export function defineAudit(name: string, start: StartHomeserver): void {
  describe(name, () => {
    beforeEach(async () => {
      fleet = await startSmallFleet(start);
    });
    afterEach(() => fleet[Symbol.asyncDispose]());

    describe("reads", reading);
    describe("verifies", verifying);
  });
}
