/** What commands ask of the homeserver must not grow with the fleet. Real accounts, rooms and homeserver; no launcher. */
import { expect, test } from "bun:test";
import { fleetMachines } from "@bureau/control/machines/fleet-machines";
import { findMachine } from "@bureau/control/machines/list-machines";
import { eventTypes } from "@bureau/schema/events";
import { parseMachine } from "@bureau/schema/refs";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { openHomeserverDoor } from "@bureau/testkit/homeserver-door";
import { prod, SimulatedFleet } from "../bench/simulated-fleet.ts";

test("listing machines takes three requests, and showing one takes the same few bytes, in a fleet of any size", async () => {
  await using homeserver = await startEmbeddedHomeserver();
  using door = openHomeserverDoor(homeserver.url);
  const { serverName, registrationToken } = homeserver;
  const fleet = await SimulatedFleet.open({ url: door.url, serverName, registrationToken });
  const shown: { readonly requests: number; readonly bytes: number }[] = [];
  for (const size of [2, 8]) {
    await fleet.growTo(size);
    door.takeCount();
    const listed = await fleetMachines(fleet.admin, prod, Date.now());
    expect(door.takeCount()).toMatchObject({ requests: 3, writes: 0 });
    expect(listed.map(({ state }) => state)).toEqual(Array(size).fill("online"));
    expect(listed.map(({ heartbeat_interval_seconds: due }) => due)).toEqual(Array(size).fill(30));
    expect(await findMachine(fleet.admin, parseMachine(`${prod}/machine/m00001`))).toEqual(
      (({ state: _, ...known }) => known)(listed[1] as (typeof listed)[number]),
    );
    shown.push(door.takeCount());
  }
  const [few, many] = shown;
  expect(many?.requests).toBe(few?.requests as number);
  expect(many?.requests).toBeLessThanOrEqual(9);
  expect(many?.bytes).toBeLessThan((few?.bytes ?? 0) * 1.1);
});

test("the newer of a machine's two heartbeats counts: its own room's, or that of an earlier build", async () => {
  await using homeserver = await startEmbeddedHomeserver();
  const fleet = await SimulatedFleet.open(homeserver);
  await fleet.growTo(2);
  const { signal } = new AbortController();
  const [one, two] = fleet.machines;
  await one?.beat(signal);
  await two?.beat(signal, "an earlier build");
  const beatOf = async (room: "config" | "machines", of: typeof one) =>
    await of?.session.stateEvent(of.rooms[room], eventTypes.machineStatus, of.session.userId.slice(1));
  const listed = await fleetMachines(fleet.admin, prod, Date.now());
  for (const [machine, room, due] of [
    [one, "config", 30],
    [two, "machines", undefined],
  ] as const) {
    const found = listed.find(({ user_id }) => user_id === machine?.session.userId);
    expect(found?.heartbeat_interval_seconds).toBe(due);
    expect(found?.last_seen).toBe(new Date((await beatOf(room, machine))?.sentAt ?? 0).toISOString());
  }
});
