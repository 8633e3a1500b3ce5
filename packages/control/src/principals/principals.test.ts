import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { jsonBytes } from "@bureau/matrix/event-content";
import { eventTypes, type PrincipalAssignment } from "@bureau/schema/events";
import { serverOf, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { PART_BYTES_MAX, readConfigParts } from "../machines/config-parts.ts";
import { readConfigFaults, repairConfig } from "../machines/config-repair.ts";
import {
  editAssignment,
  editDesiredVersion,
  readAssignments,
  readLastAssignments,
} from "../machines/machine-config.ts";
import { type SmallFleet, startSmallFleet } from "../testing/small-fleet.ts";
import { destroyPrincipal } from "./principals.ts";

let fleet: SmallFleet;
beforeAll(async () => {
  fleet = await startSmallFleet();
});
afterAll(() => fleet[Symbol.asyncDispose]());

const userOf = (name: string) => userIdOf(fleet.principal(name), serverOf(fleet.session.userId));
const assignment = (name: string, payloadBytes = 0): PrincipalAssignment => ({
  principal: userOf(name),
  template: "bureau/template:agent",
  auto_start: true,
  payload: { task: "x".repeat(payloadBytes) },
});
const put = (type: string, key: string, principals: unknown) =>
  fleet.session.putState(fleet.place.room, type, key, { principals });
const setConfig = (principals: unknown) => put(eventTypes.machineConfig, fleet.place.key, principals);
const edit = (name: string, payloadBytes: number) =>
  editAssignment(fleet.editor, fleet.place, userOf(name), assignment(name, payloadBytes));
const parts = () => readConfigParts(fleet.session, fleet.place);
const counts = async () => (await parts()).map(({ content }) => (content["principals"] as unknown[]).length);
/** As many with 500 bytes as `machine_config` takes before pages are used. */
const FULL = 88;
const many = (count: number) => Array.from({ length: count }, (_, index) => assignment(`a${index}`, 500));

/** The requests of one act. */
async function requestsOf(act: () => Promise<unknown>): Promise<string[]> {
  const before = fleet.requests.length;
  await act();
  return fleet.requests.slice(before);
}

/** What a request asks for, without the room and the user. */
function actOf(request: string): string {
  const [method, path = ""] = request.split(" ");
  const state = /\/state\/([^/?]+)/u.exec(path)?.[1];
  if (state !== undefined) return `${method} state ${state}`;
  const act = /\b(?:sync|register|override_ratelimit|invite|join|messages)\b/u.exec(path)?.[0];
  return `${method} ${act ?? path}`;
}

test("creating an agent takes ten requests, and as many when agents came and went", async () => {
  await setConfig([]);
  await fleet.announce(64);
  const first = await requestsOf(() => fleet.create("first"));
  // The first one looks up the rooms of four aliases, at once.
  const lookUps = first.filter((request) => request.includes("/directory/room/"));
  expect(lookUps).toHaveLength(4);
  expect(first.length).toBeLessThanOrEqual(14);
  for (let index = 0; index < 10; index++) {
    await fleet.create(`gone${index}`);
    await destroyPrincipal({
      ...fleet.editor,
      machine: fleet.machine,
      principal: fleet.principal(`gone${index}`),
    });
  }
  const rounds = fleet.rounds();
  const last = await requestsOf(() => fleet.create("last"));
  expect(last.map(actOf)).toEqual([
    "GET sync",
    "GET state m.bureau.machine_key",
    "POST register",
    "POST override_ratelimit",
    "POST invite",
    "POST join",
    "GET state m.bureau.machine_config",
    "PUT state m.bureau.credentials",
    "PUT state m.bureau.machine_config",
    "GET messages",
  ]);
  expect(fleet.rounds() - rounds).toBeLessThanOrEqual(9);
  // An edit reads the events that it needs, never a whole room.
  expect(last.filter((request) => /rooms\/[^/]+\/state$/u.test(request))).toEqual([]);
  expect((await requestsOf(() => fleet.create("last"))).length).toBeLessThanOrEqual(4);
});

test("a remembered room that is not the alias's any more is looked up again", async () => {
  await setConfig([]);
  await fleet.create("before");
  const lobby = [...fleet.known].find(([alias]) => alias.includes("/lobby:"));
  if (lobby === undefined) throw new Error("the lobby is not remembered");
  const config = [...fleet.known].find(([, room]) => room === fleet.place.room);
  if (config === undefined) throw new Error("the config room is not remembered");
  // As after an upgrade of the room: the alias stands for another one.
  fleet.known.set(config[0], lobby[1]);
  await fleet.create("after");
  expect(fleet.known.get(config[0])).toBe(fleet.place.room);
  const { assignments } = await readAssignments(fleet.session, fleet.place);
  expect(assignments.map(({ principal }) => principal)).toEqual([userOf("before"), userOf("after")]);
});

test("an interrupted creation is completed with the account that it made", async () => {
  await setConfig([]);
  const stop = new Error("interrupted");
  const interrupted = fleet.create("cut", { takeTurn: () => Promise.reject(stop) });
  await expect(interrupted).rejects.toBe(stop);
  const credentials = () =>
    fleet.session.getState(fleet.place.room, eventTypes.credentials, stateKeyOf(userOf("cut")));
  expect(await credentials()).toBeUndefined();
  await fleet.create("cut");
  const sealed = await credentials();
  expect(sealed).toMatchObject({ principal: userOf("cut") });
  // Only its assignment is missing: the account keeps its session.
  await editAssignment(fleet.editor, fleet.place, userOf("cut"), undefined);
  const again = await requestsOf(() => fleet.create("cut"));
  expect(again.filter((request) => request.includes("/login"))).toEqual([]);
  expect(await credentials()).toEqual(sealed);
});

describe("a configuration that is full", () => {
  beforeEach(async () => {
    for (const { at } of (await parts()).slice(1)) await put(at.type, at.key, []);
    await setConfig(many(FULL));
  });

  test("refuses a machine that reads no pages, before anything is made", async () => {
    await fleet.announce(undefined);
    const requests = await requestsOf(async () => {
      await expect(fleet.create("late", { assignment: assignment("late", 500) })).rejects.toMatchObject({
        code: "too-large",
        message: expect.stringContaining("its 88 agents fill the configuration"),
      });
    });
    expect(requests.filter((request) => !request.startsWith("GET "))).toEqual([]);
    expect(
      await fleet.session.getState(fleet.place.room, eventTypes.credentials, stateKeyOf(userOf("late"))),
    ).toBeUndefined();
  });

  test("refuses an assignment that no event can hold", async () => {
    await expect(fleet.create("huge", { assignment: assignment("huge", 63_000) })).rejects.toThrow(
      "its assignment has",
    );
  });

  test("takes further agents in pages, which stay below the size of an event", async () => {
    await fleet.announce(64);
    for (let index = FULL; index < FULL + 100; index++) await edit(`a${index}`, 500);
    expect((await counts()).length).toBeGreaterThanOrEqual(3);
    expect((await readAssignments(fleet.session, fleet.place)).assignments).toHaveLength(FULL + 100);
    for (const { content } of await parts()) expect(jsonBytes(content)).toBeLessThan(PART_BYTES_MAX);
  });

  test("edits only the event that holds the agent, and fills the gaps that destroyed agents leave", async () => {
    await fleet.announce(64);
    await edit("p1", 500);
    expect(await counts()).toEqual([FULL, 1, ...(await counts()).slice(2)]);
    const changed = await requestsOf(() => edit("p1", 501));
    const written = changed.filter((request) => request.startsWith("PUT "));
    expect(written).toEqual([expect.stringContaining(`${eventTypes.machineConfigPage}/1`)]);
    await editAssignment(fleet.editor, fleet.place, userOf("a3"), undefined);
    await edit("p2", 500);
    expect((await counts())[0]).toBe(FULL);
    await editAssignment(fleet.editor, fleet.place, userOf("p1"), undefined);
    await edit("p3", 500);
    expect((await counts()).slice(0, 2)).toEqual([FULL, 1]);
  });

  test("moves an assignment that outgrows its event, and leaves it in one place", async () => {
    await fleet.announce(64);
    await edit("a5", 20_000);
    expect((await counts()).slice(0, 2)).toEqual([FULL - 1, 1]);
    const { assignments } = await readAssignments(fleet.session, fleet.place);
    expect(assignments.filter(({ principal }) => principal === userOf("a5"))).toEqual([
      assignment("a5", 20_000),
    ]);
  });

  test("reads a principal in two places once, and the next edit leaves it in the first", async () => {
    await fleet.announce(64);
    await put(eventTypes.machineConfigPage, "1", [assignment("a7", 1), assignment("other")]);
    const { assignments } = await readAssignments(fleet.session, fleet.place);
    expect(assignments).toHaveLength(FULL + 1);
    expect(assignments.find(({ principal }) => principal === userOf("a7"))).toEqual(assignment("a7", 500));
    await edit("a7", 2);
    expect((await counts()).slice(0, 2)).toEqual([FULL, 1]);
  });

  test("agents that are made at once, more than one event takes, all have their place", async () => {
    await fleet.announce(64);
    await setConfig(many(70));
    await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        fleet.create(`burst${index}`, { assignment: assignment(`burst${index}`, 4_000), joins: [] }),
      ),
    );
    expect((await readAssignments(fleet.session, fleet.place)).assignments).toHaveLength(82);
  });

  test("counts for nothing while machine_config is cleared, as another implementation does when a machine leaves", async () => {
    await fleet.announce(64);
    await edit("p1", 500);
    await fleet.session.putState(fleet.place.room, eventTypes.machineConfig, fleet.place.key, {});
    expect((await readAssignments(fleet.session, fleet.place)).assignments).toEqual([]);
    const before = await readLastAssignments(fleet.session, fleet.place);
    expect(before).toHaveLength(FULL + 1);
  });

  test("begins empty after machine_config was cleared: an edit brings nothing back that was in pages", async () => {
    const clear = () =>
      fleet.session.putState(fleet.place.room, eventTypes.machineConfig, fleet.place.key, {});
    const users = async () =>
      (await readAssignments(fleet.session, fleet.place)).assignments.map(({ principal }) => principal);
    await fleet.announce(64);
    await edit("p1", 500);
    await clear();
    const version = {
      daemon_store_path: "/a",
      launcher_store_path: "/b",
      proxy_store_path: "/c",
      request_id: "r1",
    };
    await editDesiredVersion(fleet.editor, fleet.place, version);
    expect(await users()).toEqual([]);
    await setConfig(many(FULL));
    await edit("p1", 500);
    await clear();
    await edit("new", 500);
    expect(await users()).toEqual([userOf("new")]);
    await setConfig(many(FULL));
    await edit("p1", 500);
    await clear();
    await fleet.create("created");
    expect(await users()).toEqual([userOf("created")]);
  });

  test("uses pages again that large assignments left", async () => {
    await fleet.announce(64);
    for (let index = 0; index < 4; index++) {
      await edit("large", 50_000);
      await editAssignment(fleet.editor, fleet.place, userOf("large"), undefined);
    }
    const used = (await parts()).length;
    for (let index = 0; index < 4; index++) {
      await edit("large", 50_000);
      await editAssignment(fleet.editor, fleet.place, userOf("large"), undefined);
    }
    expect((await parts()).length).toBe(used);
  });

  test("names and removes what cannot be read in a page", async () => {
    await put(eventTypes.machineConfigPage, "1", [assignment("ok"), { principal: userOf("odd") }]);
    const faults = ["page 1: principals.1"];
    expect((await readConfigFaults(fleet.session, fleet.place)).map(({ field }) => field)).toEqual(faults);
    expect((await repairConfig(fleet.editor, fleet.place)).map(({ field }) => field)).toEqual(faults);
    expect((await counts()).slice(0, 2)).toEqual([FULL, 1]);
  });
});
