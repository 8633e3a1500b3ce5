import { describe, expect, test } from "bun:test";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventMessages } from "@bureau/schema/events";
import { parseRoomId } from "@bureau/schema/refs";
import { followUpdate } from "./follow-update.ts";
import type { Effect, Touched } from "./template-impact.ts";
import { outcomeOf } from "./update-outcome.ts";

const touched = (effect: Effect = "restart", restart_policy = "always"): Touched =>
  ({
    principal: "service/a",
    effect,
    assignment: { restart_policy },
    place: { key: "bureau/fleet/f/machine/m:bureau.local" },
  }) as unknown as Touched;
const message = (msgtype: string, fields: object = {}) => ({
  event_id: "$e",
  sender: "@bureau/fleet/f/machine/m:bureau.local",
  content: { msgtype, principal: "service/a", ...fields },
});
const restarted = message(eventMessages.principalRestarted);
const steady = message(eventMessages.principalSteady);
const rolledBack = message(eventMessages.healthCheck, { outcome: "rolled_back", error: "no" });

test("a restart is not an outcome; ready and rolled back are", () => {
  expect(outcomeOf(touched(), [restarted])).toEqual({ outcome: "pending" });
  expect(outcomeOf(touched(), [steady, restarted])).toEqual({ outcome: "healthy" });
  expect(outcomeOf(touched(), [rolledBack, restarted])).toEqual({ outcome: "rolled-back", reason: "no" });
});

test("the restart is the outcome for work that may end", () => {
  expect(outcomeOf(touched("restart", "never"), [restarted])).toEqual({ outcome: "updated" });
});

test("only the newest message about this principal counts", () => {
  const other = { ...steady, content: { ...steady.content, principal: "service/b" } };
  expect(outcomeOf(touched(), [other, rolledBack, steady])).toMatchObject({ outcome: "rolled-back" });
  expect(outcomeOf(touched(), [other])).toEqual({ outcome: "pending" });
});

test("only the machine's own report counts", () => {
  const forged = { ...steady, sender: "@bureau/fleet/f/service/a:bureau.local" };
  expect(outcomeOf(touched(), [forged])).toEqual({ outcome: "pending" });
  expect(outcomeOf(touched(), [forged, rolledBack])).toMatchObject({ outcome: "rolled-back" });
});

test("a pending change has the last error", () => {
  const failed = message(eventMessages.principalStartFailed, { error: "no such file" });
  expect(outcomeOf(touched(), [failed])).toEqual({ outcome: "pending", reason: "no such file" });
  expect(
    outcomeOf(touched(), [message(eventMessages.healthCheck, { outcome: "destroyed", error: "ill" })]),
  ).toEqual({
    outcome: "pending",
    reason: "ill",
  });
});

test("stops waiting for a change that was rolled back on trial", async () => {
  const room = parseRoomId("!r:bureau.local");
  const of = (principal: string): Touched =>
    ({ ...touched(), principal, place: { ...touched().place, room } }) as unknown as Touched;
  const [one, other] = [of("service/a"), of("service/b")];
  // An earlier outcome stays; of the other principal the daemon reports only a restart.
  const session = { messages: async () => ({ chunk: [restarted, rolledBack] }) } as unknown as MatrixSession;
  const outcomes = await followUpdate(session, [one, other], new Map([[room, undefined]]), {
    clock: systemClock,
    timeoutMs: 60_000,
    onProgress: () => {},
    stands: async () => false,
  });
  expect(outcomes.get(one)?.outcome).toBe("rolled-back");
  expect(outcomes.get(other)?.outcome).toBe("superseded");
});

describe("an unreachable homeserver", () => {
  const room = parseRoomId("!r:bureau.local");
  const one = { ...touched(), place: { ...touched().place, room } } as unknown as Touched;
  const options = { clock: systemClock, onProgress: () => {}, stands: async () => true };
  const away = new BureauError("unavailable", "the homeserver is away");

  test("for a moment is tolerated", async () => {
    let asked = 0;
    const messages = (): Promise<{ chunk: object[] }> =>
      asked++ === 0 ? Promise.reject(away) : Promise.resolve({ chunk: [steady] });
    const session = { messages } as unknown as MatrixSession;
    const outcomes = await followUpdate(session, [one], new Map([[room, undefined]]), {
      ...options,
      timeoutMs: 10_000,
    });
    expect(outcomes.get(one)).toEqual({ outcome: "healthy" });
  });

  test("until the timeout leaves the change pending", async () => {
    const session = { messages: () => Promise.reject(away) } as unknown as MatrixSession;
    const outcomes = await followUpdate(session, [one], new Map([[room, undefined]]), {
      ...options,
      timeoutMs: 30,
    });
    expect(outcomes.get(one)).toEqual({ outcome: "pending" });
  });

  test("is distinguished from one that refuses", async () => {
    const refusal = Promise.reject(new BureauError("forbidden", "not in this room"));
    const session = { messages: () => refusal } as unknown as MatrixSession;
    const following = followUpdate(session, [one], new Map([[room, undefined]]), {
      ...options,
      timeoutMs: 30,
    });
    expect(await following.catch(String)).toContain("not in this room");
  });
});
