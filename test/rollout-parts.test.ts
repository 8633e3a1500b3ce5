/** Rollouts with more machines than one event holds, in a real room. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { FleetWatch } from "@bureau/control/rollouts/fleet-watch";
import {
  createRollout,
  listRollouts,
  readRollout,
  writeRollout,
} from "@bureau/control/rollouts/rollout-store";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { systemClock } from "@bureau/kit/clock";
import { eventTypes } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { machineLocalpart } from "@bureau/schema/refs";
import { type Rollout, type RolloutMachine, RolloutSchema } from "@bureau/schema/rollout";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { openHomeserverDoor } from "@bureau/testkit/homeserver-door";
import { prod, SimulatedFleet } from "../bench/simulated-fleet.ts";

setDefaultTimeout(120_000);

const rolloutOf = (count: number, by: Rollout["requested_by"]): Rollout => ({
  host_environment_path: "/nix/store/new",
  bureau_version: {},
  selector: "all",
  canary: 1,
  batch: 5,
  halt_on_error: true,
  rollback_on_error: false,
  wait_offline: false,
  timeout_seconds: 300,
  requested_by: by,
  started_at: "2026-01-01T00:00:00.000Z",
  state: "running",
  generation: 1,
  machines: Array.from({ length: count }, (_, index) => ({
    machine: machineLocalpart(prod, `m${index}`),
    state: "pending",
    attempt: 1,
  })),
});

/** The entry of one machine as it is when it has ended, at its largest. */
const ended = (rollout: Rollout, index: number): Rollout => ({
  ...rollout,
  machines: rollout.machines.map((one, at): RolloutMachine => {
    if (at !== index) return one;
    const request_id = `20260131-093000-4f2a/${one.machine}/1`;
    return { ...one, state: "succeeded", request_id, reason: "r".repeat(160) };
  }),
});

async function open() {
  const homeserver = await startEmbeddedHomeserver();
  const door = openHomeserverDoor(homeserver.url);
  const { serverName, registrationToken } = homeserver;
  const fleet = await SimulatedFleet.open({ url: door.url, serverName, registrationToken });
  const session = fleet.admin;
  const place = { room: await roomOfFleet(session, prod), id: "r1" };
  const close = async (): Promise<void> => {
    door[Symbol.dispose]();
    await homeserver[Symbol.asyncDispose]();
  };
  return { session, fleet, door, place, [Symbol.asyncDispose]: close };
}

test("a rollout of which a part is missing is not run without the machines in it", async () => {
  await using at = await open();
  const { session, place } = at;
  await createRollout(session, place, rolloutOf(300, session.userId));
  await session.putState(place.room, eventTypes.rollout, "r1/1", {});
  await expect(readRollout(session, place)).rejects.toThrow('its event "r1/1" is missing or unreadable');
});

test("a rollout over 1,000 machines is read as a whole; a command of an earlier build reads its first event", async () => {
  await using at = await open();
  const { session, place, door } = at;
  const wanted = rolloutOf(1_000, session.userId);
  await createRollout(session, place, wanted);
  door.takeCount();
  expect((await readRollout(session, place)).rollout).toEqual(wanted);
  expect(door.takeCount().requests).toBe(1);
  expect((await listRollouts(session, place.room)).map(({ id }) => id)).toEqual(["r1"]);
  const first = parse(RolloutSchema, await session.getState(place.room, eventTypes.rollout, "r1"), "first");
  expect(first.machines.length).toBeGreaterThan(50);
  expect(first.machines).toEqual(wanted.machines.slice(0, first.machines.length));
});

test("a change of one machine writes one event, and each event has room until all its machines have ended", async () => {
  await using at = await open();
  const { session, place, door } = at;
  await createRollout(session, place, rolloutOf(300, session.userId));
  for (const index of [299, 0]) {
    const read = await readRollout(session, place);
    door.takeCount();
    await writeRollout(session, place, read, ended(read.rollout, index));
    expect(door.takeCount().writes).toBe(1);
  }
  const read = await readRollout(session, place);
  const all = read.rollout.machines.reduce((rollout, _, index) => ended(rollout, index), read.rollout);
  await writeRollout(session, place, read, all);
  expect((await readRollout(session, place)).rollout).toEqual(all);
});

test("two controllers that write different machines of a part at once lose nothing", async () => {
  await using at = await open();
  const { session, place } = at;
  await createRollout(session, place, rolloutOf(300, session.userId));
  const read = await readRollout(session, place);
  await writeRollout(session, place, read, ended(read.rollout, 250));
  const written = await writeRollout(session, place, read, ended(read.rollout, 251));
  const both = ended(ended(read.rollout, 250), 251);
  expect(written).toEqual(both);
  expect((await readRollout(session, place)).rollout).toEqual(both);
});

test("a halt and a controller that begins a machine meanwhile see each other, though they write different events", async () => {
  await using at = await open();
  const { session, place } = at;
  await createRollout(session, place, rolloutOf(300, session.userId));
  const read = await readRollout(session, place);
  const halted: Rollout = { ...read.rollout, state: "halted" };
  await writeRollout(session, place, read, halted);
  const begun = await writeRollout(session, place, read, ended(read.rollout, 250));
  expect(begun).toEqual(ended(halted, 250));
  // The other way round: the controller wrote first.
  const controlled = await readRollout(session, place);
  await writeRollout(session, place, controlled, ended(controlled.rollout, 251));
  const later: Rollout = { ...controlled.rollout, state: "rolled-back" };
  expect(await writeRollout(session, place, controlled, later)).toEqual(ended(later, 251));
  expect((await readRollout(session, place)).rollout).toEqual(ended(later, 251));
});

test("refuses more than 10,000 machines before it writes anything", async () => {
  await using at = await open();
  const { session, place, door } = at;
  door.takeCount();
  await expect(createRollout(session, place, rolloutOf(10_001, session.userId))).rejects.toThrow(
    "10001 machines are too many for one rollout: the most is 10000",
  );
  expect(door.takeCount().writes).toBe(0);
});

test("a controller waits in one long poll: heartbeats do not end it, a machine's report does", async () => {
  await using at = await open();
  const { session, fleet, place, door } = at;
  await fleet.growTo(3);
  const watch = new FleetWatch({ session, fleet: prod, clock: systemClock });
  await watch.begin(place.room);
  expect(await watch.machines()).toHaveLength(3);
  door.takeCount();
  let isOver = false;
  const { signal } = new AbortController();
  const change = watch.change(20_000, signal).then(() => {
    isOver = true;
  });
  for (let beat = 0; beat < 6; beat++) for (const machine of fleet.machines) await machine.beat(signal);
  expect(isOver).toBe(false);
  expect(await watch.machines()).toHaveLength(3);
  const [machine] = fleet.machines;
  const key = machine?.session.userId.slice(1) ?? "";
  const { requests, writes } = door.takeCount();
  // The poll's own; the rest are of the heartbeats: each writes, some copy, and look for a fleet controller.
  expect(requests - writes).toBeLessThanOrEqual(1 + 18);
  await machine?.session.putState(machine.rooms.config, eventTypes.machineVersion, key, { version: "1" });
  await change;
  expect(isOver).toBe(true);
});
