import { expect, test } from "bun:test";
import { RoomStateStore } from "@bureau/matrix/room-state";
import { silentLog } from "@bureau/os/testing/silent-log";
import { eventTypes } from "@bureau/schema/events";
import type { LauncherRequest, SandboxList, SandboxStatus } from "@bureau/schema/launcher-ipc";
import {
  type PrincipalName,
  parseMachine,
  parseRoomId,
  parseServerName,
  stateKeyOf,
  userIdOf,
} from "@bureau/schema/refs";
import { DesiredResolver } from "../desired/desired-resolver.ts";
import { DesiredSource } from "../desired/desired-source.ts";
import { HealthMonitor } from "../health/health-monitor.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import { noMembers } from "../testing/no-members.ts";
import { TurnedClock } from "../testing/turned-clock.ts";
import { ReconcileState } from "./reconcile-state.ts";
import { Reconciler } from "./reconciler.ts";
import { SpecHistory } from "./spec-history.ts";

const place = {
  machine: parseMachine("bureau/fleet/test/machine/box"),
  server: parseServerName("bureau.test"),
};
const machineKey = stateKeyOf(userIdOf(place.machine, place.server));
const userOf = (name: string) => userIdOf(`bureau/fleet/test/${name}` as never, place.server);
const room = parseRoomId("!config:bureau.test");
const operator = "@operator:bureau.test";

/** The config room of a machine on which `count` principals run without a template. */
class Room {
  readonly store = new RoomStateStore();
  #events = 0;

  put(type: string, stateKey: string, content: Record<string, unknown>): void {
    const event = { type, stateKey, content, sender: operator, sentAt: 0, eventId: `$${this.#events++}` };
    const update = { state: [event], timeline: [], limited: false };
    this.store.apply({ nextBatch: "1", joined: new Map([[room, update]]), invited: new Map(), left: [] });
  }

  configure(count: number): void {
    const principals = Array.from({ length: count }, (_, index) => userOf(`agent/n${index}`));
    const entries = principals.map((principal) => ({ principal, template: "", auto_start: true }));
    this.put(eventTypes.machineConfig, machineKey, { principals: entries });
  }
}

/** A launcher that starts a sandbox at once, and counts what its answers contain. */
class CountingLauncher {
  readonly sandboxes = new Map<PrincipalName, SandboxStatus>();
  readonly #changes: PrincipalName[] = [];
  sent = 0;
  lists = 0;

  readonly client: Launcher = {
    call: async (action, request) => {
      if (action === "create-sandbox") return this.#create(request as never) as never;
      if (action === "wait") return (await new Promise<never>(() => {})) as never;
      if (action !== "list-sandboxes") return {} as never;
      const list = this.#list((request as LauncherRequest<"list-sandboxes">).since);
      this.lists++;
      this.sent += list.sandboxes.length;
      return list as never;
    },
  };

  #create({ principal, digests }: { principal: PrincipalName; digests: SandboxStatus["digests"] }): object {
    const proxy = { state: "running" as const };
    this.sandboxes.set(principal, { principal, digests, state: "running", pid: 1, proxy, started_at: 1 });
    this.#changes.push(principal);
    return { proxy_pid: 1 };
  }

  #list(since: number | undefined): SandboxList {
    const revision = this.#changes.length;
    if (since === undefined) return { revision, sandboxes: [...this.sandboxes.values()] };
    const changed = new Set(this.#changes.slice(since));
    const sandboxes = [...this.sandboxes.values()].filter(({ principal }) => changed.has(principal));
    return { revision, since, sandboxes, removed: [] };
  }
}

/** What one more principal costs on a machine where `count` run. */
async function costOfOneMore(count: number) {
  const clock = new TurnedClock();
  const shared = { clock, random: () => 0.5, log: silentLog, notify: () => {} };
  const rooms = new Room();
  rooms.put(eventTypes.powerLevels, "", { users: { [operator]: 100 } });
  for (let index = 0; index <= count; index++)
    rooms.put(eventTypes.credentials, stateKeyOf(userOf(`agent/n${index}`)), {
      version: 1,
      principal: userOf(`agent/n${index}`),
      encrypted_for: [],
      keys: [],
      ciphertext: "c",
      provisioned_by: operator,
      provisioned_at: "",
      signature: "",
    });
  rooms.configure(count);
  const resolver = new DesiredResolver({ ...place, localpartBytesMax: 84 });
  const directory = { revision: 0, lookup: () => ({ kind: "pending" as const }), want: () => {} };
  const states = rooms.store;
  const source = new DesiredSource({
    onAuthorization: () => {},
    members: noMembers,
    ...shared,
    ...place,
    resolver,
    states,
    directory,
    scope: { want() {} },
  });
  source.setConfigRoom(room);
  const launcher = new CountingLauncher();
  const reconciler = new Reconciler({
    ...shared,
    userOf,
    launcher: launcher.client,
    proxies: { putGrants: async () => {} },
    state: new ReconcileState({ read: () => undefined, write: () => {} }),
    history: new SpecHistory({ read: () => [], write: () => {}, remove: () => {} }, silentLog),
    health: new HealthMonitor({ ...shared, healthProbe: async () => undefined, onChange: () => {} }),
    desired: () => source.current(),
    graceMs: 1,
    onDrained: () => {},
    onRemoval: () => {},
  });
  const stop = new AbortController();
  void reconciler.run(stop.signal);
  for (let turns = 0; launcher.sandboxes.size < count && turns < count; turns++) await clock.turn(100);
  await clock.turn(1_000);
  expect(launcher.sandboxes.size).toBe(count);
  const before = { ...resolver.computed, sent: launcher.sent, lists: launcher.lists };
  rooms.configure(count + 1);
  reconciler.mark();
  await clock.turn(1_000);
  expect(launcher.sandboxes.size).toBe(count + 1);
  stop.abort();
  await clock.turn(0);
  const { assignments, principals } = resolver.computed;
  return {
    assignments: assignments - before.assignments,
    principals: principals - before.principals,
    sent: launcher.sent - before.sent,
    lists: launcher.lists - before.lists,
  };
}

test("one more principal costs the same on a machine where 3 or 300 run", async () => {
  const small = await costOfOneMore(3);
  expect(small).toMatchObject({ assignments: 1, principals: 1, sent: 1 });
  expect(await costOfOneMore(300)).toEqual(small);
});
