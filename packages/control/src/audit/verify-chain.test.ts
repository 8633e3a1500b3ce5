import { describe, expect, test } from "bun:test";
import { chained } from "@bureau/kit/audit-chain";
import type { TimelineEvent } from "@bureau/matrix/event";
import type { ChainedAudit, ChainHead } from "@bureau/schema/audit";
import { sha256Hex } from "../digest.ts";
import { ChainWalk, type Verified } from "./verify-chain.ts";

const first: ChainHead = { chain: "0123456789abcdef", sequence: 0, hash: "" };

function chainOf(length: number, from: ChainHead = first): ChainedAudit[] {
  const events: ChainedAudit[] = [];
  for (let head = from; events.length < length; ) {
    const record = {
      decision: "deny",
      actor: "@a:s",
      action: `act/${events.length}`,
      target: "",
      enforcement_point: "daemon/observe",
      machine: "@m:s",
    } as const;
    const event = chained(record, { time: "2026-12-01T00:00:00.000Z", count: 1 }, head, sha256Hex);
    events.push(event);
    head = event;
  }
  return events;
}

const inRoom = (content: Readonly<Record<string, unknown>>, index: number): TimelineEvent => ({
  type: "m.bureau.audit",
  sender: "@m:s",
  content: { ...content },
  eventId: `$${index}`,
  stateKey: undefined,
  sentAt: 0,
  redacts: undefined,
});

function walk(contents: readonly Readonly<Record<string, unknown>>[], heads?: ChainHead[]): Verified {
  const one = new ChainWalk();
  for (const [index, content] of contents.entries()) one.next(inRoom(content, index));
  return one.end(heads);
}

const faultsOf = (verified: Verified): string[] =>
  verified.findings.map(({ fault, event_id, sequence }) => `${fault} ${event_id} ${sequence}`);

const [a, b, c, d, e] = chainOf(5) as [ChainedAudit, ChainedAudit, ChainedAudit, ChainedAudit, ChainedAudit];

test("a whole chain has no findings", () => {
  const verified = walk([a, b, c, d, e], [{ chain: e.chain, sequence: 5, hash: e.hash }]);
  expect(verified).toEqual({
    findings: [],
    events: 5,
    unchained: 0,
    chains: 1,
    head: { chain: e.chain, sequence: 5, hash: e.hash },
  });
});

test("no events are no chain", () => {
  expect(walk([])).toEqual({ findings: [], events: 0, unchained: 0, chains: 0, head: undefined });
});

describe("finds", () => {
  test("events that are missing in the middle, at the beginning and at the end", () => {
    expect(faultsOf(walk([a, b, e]))).toEqual(["gap $2 5"]);
    expect(faultsOf(walk([c, d, e]))).toEqual(["gap $0 3"]);
    expect(faultsOf(walk([a, b], [e]))).toEqual(["tail-missing  2"]);
    expect(faultsOf(walk([], [e]))).toEqual(["tail-missing  0"]);
  });

  test("a redacted event, and does not call it a gap as well", () => {
    expect(faultsOf(walk([a, {}, c]))).toEqual(["redacted $1 1"]);
    expect(faultsOf(walk([a, {}, d]))).toEqual(["redacted $1 1", "gap $2 4"]);
    expect(faultsOf(walk([{}, b]))).toEqual(["redacted $0 0"]);
  });

  test("an edited event", () => {
    expect(faultsOf(walk([a, { ...b, actor: "@other:s" }, c]))).toEqual(["edited $1 2"]);
    expect(faultsOf(walk([a, { ...b, added: true }, c]))).toEqual(["edited $1 2"]);
  });

  test("an edited event whose hash was computed again", () => {
    const { chain, hash, sequence } = a;
    const [other] = chainOf(1, { chain, hash, sequence }).map((event) => ({ ...event, action: "act/9" }));
    const again = chained(
      { ...(other as ChainedAudit) },
      { time: b.time, count: 1 },
      { chain, sequence, hash },
      sha256Hex,
    );
    expect(faultsOf(walk([a, again, c]))).toEqual(["fork $2 3"]);
  });

  test("a second event in the place of one", () => {
    const [other] = chainOf(1, { chain: a.chain, sequence: 1, hash: a.hash }) as [ChainedAudit];
    expect(other.hash).not.toBe(b.hash);
    expect(faultsOf(walk([a, b, other, c]))).toEqual(["fork $2 2"]);
  });

  test("events in another order", () => {
    expect(faultsOf(walk([a, c, b, d]))).toEqual(["gap $1 3", "reordered $2 2"]);
  });

  test("an event that is there twice", () => {
    expect(faultsOf(walk([a, b, b, c]))).toEqual(["repeated $2 2"]);
  });

  test("an event without a place in the chain, after its beginning", () => {
    const plain = { decision: "deny", actor: "@a:s", action: "observe" };
    expect(faultsOf(walk([a, plain, b]))).toEqual(["unchained $1 1"]);
    expect(walk([plain, a, b])).toMatchObject({ findings: [], unchained: 1 });
  });

  test("another event with the sequence number of a reported event", () => {
    expect(faultsOf(walk([a, b, c], [{ chain: a.chain, sequence: 2, hash: "f".repeat(64) }]))).toEqual([
      "fork  2",
    ]);
  });
});

test("counts a chain that began again, and finds a gap at its beginning", () => {
  const other = chainOf(3, { chain: "fedcba9876543210", sequence: 0, hash: "" });
  expect(walk([a, b, ...other])).toMatchObject({ findings: [], chains: 2, events: 5 });
  expect(faultsOf(walk([a, b, ...other.slice(1)]))).toEqual(["gap $2 2"]);
});

test("finds a head that was seen before missing, also when another chain follows or none of its own is there", () => {
  const headOf = ({ chain, sequence, hash }: ChainedAudit): ChainHead => ({ chain, sequence, hash });
  const other = chainOf(3, { chain: "fedcba9876543210", sequence: 0, hash: "" });
  const [, , last] = other as [ChainedAudit, ChainedAudit, ChainedAudit];
  expect(faultsOf(walk([a, b, ...other], [headOf(e)]))).toEqual(["tail-missing  2"]);
  expect(faultsOf(walk([a, b], [headOf(last)]))).toEqual(["tail-missing  0"]);
  expect(faultsOf(walk([a, b, ...other], [{ ...headOf(b), hash: "f".repeat(64) }]))).toEqual(["fork  2"]);
  expect(walk([a, b, ...other], [headOf(b), headOf(last), first]).findings).toEqual([]);
});
