/** What commands ask of the homeserver must not grow with the fleet. Real accounts, rooms and homeserver; no launcher. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fleetMachines } from "@bureau/control/machines/fleet-machines";
import { findMachine } from "@bureau/control/machines/list-machines";
import { configPlace } from "@bureau/control/machines/machine-config";
import { eventTypes } from "@bureau/schema/events";
import { type MachineLocalpart, machineLocalpart, parseMachine } from "@bureau/schema/refs";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { openHomeserverDoor } from "@bureau/testkit/homeserver-door";
import { prod, SimulatedFleet } from "../bench/simulated-fleet.ts";
import { FleetOfAccounts, resultOf } from "./contract/fleet-of-accounts.ts";

setDefaultTimeout(120_000);

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

test("the list and the dry run of an upgrade ask as many questions in a large fleet as in a small one", async () => {
  await using accounts = await FleetOfAccounts.start([prod]);
  using door = openHomeserverDoor(accounts.homeserver.url);
  const credentials = join(accounts.dir, "through-the-door");
  const known = readFileSync(accounts.credentials, "utf8");
  writeFileSync(credentials, known.replaceAll(accounts.homeserver.url, door.url), { mode: 0o600 });
  const requestsOf = async (...command: string[]): Promise<number> => {
    door.takeCount();
    const { code, stderr } = await resultOf(
      accounts.spawn([...command, "--fleet", prod, "--credential-file", credentials]),
    );
    expect([code, stderr]).toEqual([0, ""]);
    return door.takeCount().requests;
  };
  const dryRun = ["machine", "upgrade", "--all", "--dry-run", "--on-machine", "--host-env", "/nix/store/new"];
  const counts: (readonly number[])[] = [];
  for (const names of [["m1"], ["m2", "m3", "m4", "m5"]]) {
    for (const name of names) await report(accounts, machineLocalpart(prod, name));
    counts.push([await requestsOf("machine", "list"), await requestsOf(...dryRun)]);
  }
  expect(counts).toEqual([
    [3, 3],
    [3, 3],
  ]);
});

test("a heartbeat with names that are no principals does not stop the dry run of an upgrade", async () => {
  await using accounts = await FleetOfAccounts.start([prod]);
  await report(accounts, machineLocalpart(prod, "m1"));
  await report(accounts, machineLocalpart(prod, "m2"), {
    "agent/short": { cpu_percent: 1, memory_mb: 1, status: "running" },
  });
  const { code, stdout, stderr } = await resultOf(
    accounts.spawn([
      ...["machine", "upgrade", "--all", "--dry-run", "--on-machine", "--host-env", "/nix/store/new"],
      ...["--fleet", prod, "--credential-file", accounts.credentials, "--json"],
    ]),
  );
  expect([code, stderr]).toEqual([0, ""]);
  const { machines } = JSON.parse(stdout) as { machines: readonly unknown[] };
  expect(machines).toHaveLength(2);
});

/** Joins a machine, which reports that it runs no agent, or those given. */
async function report(
  accounts: FleetOfAccounts,
  machine: MachineLocalpart,
  principals?: object,
): Promise<void> {
  const own = await accounts.join(machine, { hostname: "host" });
  const { room, key } = await configPlace(accounts.session, machine);
  await own.putState(room, eventTypes.machineStatus, key, {
    principal: own.userId,
    cpu_percent: 1,
    memory_used_mb: 1,
    sandboxes: { running: 0, idle: 0 },
    uptime_seconds: 1,
    ...(principals === undefined ? {} : { principals }),
  });
}
