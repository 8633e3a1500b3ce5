/**
 * Many machines in one process, as a homeserver sees them: real accounts, rooms, power levels, the daemon's filter for
 * /sync and its heartbeats. There is no launcher and no sandbox: a machine costs a session and a long poll.
 */
import { sharedRooms } from "@bureau/control/rooms/machine-rooms";
import { ensureFleet, ensureMachineRooms, ensureNamespace } from "@bureau/control/rooms/namespace-setup";
import { systemClock } from "@bureau/kit/clock";
import { registerWithToken } from "@bureau/matrix/auth";
import type { Fetch } from "@bureau/matrix/request";
import { MatrixSession } from "@bureau/matrix/session";
import { runSyncLoop } from "@bureau/matrix/sync-loop";
import type { SyncResponse } from "@bureau/matrix/sync-response";
import { eventTypes } from "@bureau/schema/events";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import {
  aliasOf,
  type MachineLocalpart,
  machineLocalpart,
  parseFleet,
  parseNamespace,
  parsePrincipalName,
  parseServerName,
  principalLocalpart,
  type RoomId,
  type ServerName,
  stateKeyOf,
  userIdOf,
} from "@bureau/schema/refs";
import { readHardware } from "../packages/daemon/src/hardware/machine-info.ts";
import { Heartbeat } from "../packages/daemon/src/heartbeat/heartbeat.ts";
import { publishMachineInfo } from "../packages/daemon/src/heartbeat/publish-machine-info.ts";
import { SyncScope } from "../packages/daemon/src/sync/sync-scope.ts";

/** Where the fleet lives. */
export type FleetHomeserver = {
  readonly url: string;
  readonly serverName: string;
  readonly registrationToken: string;
};

const namespace = parseNamespace("bureau");
export const prod = parseFleet("bureau/fleet/prod");
export const HEARTBEAT_MS = 30_000;
/** Heartbeats between two copies in the machine room. */
const COPY_BEATS = 5;
const SANDBOXES = 5;
/** Requests at a time while machines are set up. */
const AT_ONCE = 12;
const PASSWORD = "a-password-for-benchmarks";
const PUBLIC_KEY = `age1${"q".repeat(58)}`;

export class SimulatedFleet {
  readonly machines: SimulatedMachine[] = [];
  /** Milliseconds of each heartbeat's request. */
  readonly beatMs: number[] = [];
  /** Bytes of all answers that the machines received. */
  received = 0;
  readonly #admin: MatrixSession;
  readonly #shared: ReadonlyMap<string, RoomId>;
  readonly #hardware = readHardware();

  private constructor(
    readonly at: FleetHomeserver,
    admin: MatrixSession,
    shared: ReadonlyMap<string, RoomId>,
  ) {
    this.#admin = admin;
    this.#shared = shared;
  }

  /** An empty fleet. */
  static async open(at: FleetHomeserver): Promise<SimulatedFleet> {
    const admin = await register(at, "bureau-admin", plainFetch);
    await ensureNamespace(admin, namespace);
    await ensureFleet(admin, prod);
    const found = new Map<string, RoomId>();
    for (const { localpart } of sharedRooms(machineLocalpart(prod, "m"))) {
      const room = await admin.resolveAlias(aliasOf(localpart, parseServerName(at.serverName)));
      if (room !== undefined) found.set(localpart, room);
    }
    return new SimulatedFleet(at, admin, found);
  }

  get admin(): MatrixSession {
    return this.#admin;
  }

  /** Provisions machines until there are `count`, and has each join its rooms. */
  async growTo(count: number): Promise<void> {
    const names = Array.from({ length: count - this.machines.length }, (_, index) =>
      machineLocalpart(prod, `m${String(this.machines.length + index).padStart(5, "0")}`),
    );
    await atOnce(names, async (name) => {
      const machine = await this.#join(name);
      const index = this.machines.push(machine);
      // So that at any time one in five machines is about to write a copy.
      for (let beat = 0; beat <= index % COPY_BEATS; beat++) await machine.beat(new AbortController().signal);
    });
  }

  async #join(name: MachineLocalpart): Promise<SimulatedMachine> {
    const session = await register(this.at, name, (url, init) => this.#counted(url, init));
    const { userId } = session;
    const own = await ensureMachineRooms(this.#admin, name, { principals: [] });
    for (const room of this.#shared.values()) await this.#admin.inviteUser(room, userId);
    for (const room of [own.config, own.ops, ...this.#shared.values()]) await session.joinRoom(room);
    const machines = this.#shared.get(`${prod}/machine`) as RoomId;
    const key = { algorithm: "age-x25519", public_key: PUBLIC_KEY };
    await session.putState(machines, eventTypes.machineKey, stateKeyOf(userId), key);
    await publishMachineInfo(session, machines, userId, this.#hardware, "0.1.0 (simulated)");
    return new SimulatedMachine(session, { config: own.config, machines }, (ms) => this.beatMs.push(ms));
  }

  async #counted(url: string, init: RequestInit): Promise<Response> {
    const response = await plainFetch(url, init);
    const body = await response.arrayBuffer();
    this.received += body.byteLength;
    return new Response(body, { status: response.status, headers: response.headers });
  }

  /** Heartbeats of all machines in turn, as fast as the homeserver takes them. */
  async beatFast(count: number, build: Build = "this build"): Promise<void> {
    const { signal } = new AbortController();
    const turns = Array.from({ length: count }, (_, index) => index % this.machines.length);
    await atOnce(turns, async (index) => this.machines[index]?.beat(signal, build));
  }

  /** Every machine follows its rooms until the returned value is disposed of. Resolves when all are in sync. */
  async follow(): Promise<AsyncDisposable> {
    const stop = new AbortController();
    const loops = this.machines.map((machine) => machine.follow(stop.signal));
    await Promise.all(loops.map(({ inSync }) => inSync));
    return {
      async [Symbol.asyncDispose]() {
        stop.abort();
        await Promise.allSettled(loops.map(({ ended }) => ended));
      },
    };
  }

  /** Writes the configuration of a machine. Resolves with the milliseconds until its /sync has it, or at `signal`. */
  async changeConfig(machine: SimulatedMachine, signal: AbortSignal): Promise<number | undefined> {
    const mark = crypto.randomUUID();
    const began = performance.now();
    const seen = machine.sees(mark, signal);
    const content = { principals: [], mark };
    const key = stateKeyOf(machine.session.userId);
    await this.#admin
      .putState(machine.rooms.config, eventTypes.machineConfig, key, content, signal)
      .catch(() => {});
    return (await seen) ? performance.now() - began : undefined;
  }
}

/** An earlier build writes each heartbeat in the fleet's machine room, where all machines wait. */
export type Build = "this build" | "an earlier build";

export class SimulatedMachine {
  readonly #heartbeat: Heartbeat;
  readonly #onBeat: (ms: number) => void;
  #beats = 0;
  readonly #awaited = new Map<string, () => void>();

  constructor(
    readonly session: MatrixSession,
    readonly rooms: { readonly config: RoomId; readonly machines: RoomId },
    onBeat: (ms: number) => void,
  ) {
    this.#onBeat = onBeat;
    this.#heartbeat = new Heartbeat({
      session,
      machine: session.userId,
      rooms: { config: rooms.config, fleetMachines: rooms.machines },
      intervalMs: HEARTBEAT_MS,
      sandboxes: () => sandboxes,
      userOf: (account) => userIdOf(principalLocalpart(prod, account), serverNameOf(session)),
      auditHead: () => undefined,
      // Each heartbeat is one interval after the last, however fast they are sent.
      clock: { ...systemClock, monotonic: () => this.#beats * HEARTBEAT_MS },
    });
  }

  /** Sends one heartbeat. Leaves out a failed one, as the daemon does. */
  async beat(signal: AbortSignal, build: Build = "this build"): Promise<void> {
    const began = performance.now();
    this.#beats++;
    await (build === "this build" ? this.#heartbeat.send(signal) : this.#beatShared(signal)).catch(() => {});
    this.#onBeat(performance.now() - began);
  }

  async #beatShared(signal: AbortSignal): Promise<void> {
    const { userId } = this.session;
    const content = {
      principal: userId,
      sandboxes: { running: SANDBOXES, idle: 0 },
      uptime_seconds: this.#beats,
    };
    const { machines } = this.rooms;
    await this.session.putState(machines, eventTypes.machineStatus, stateKeyOf(userId), content, signal);
  }

  /** The daemon's sync loop. */
  follow(signal: AbortSignal): { readonly inSync: Promise<void>; readonly ended: Promise<void> } {
    const inSync = Promise.withResolvers<void>();
    const ended = runSyncLoop({
      session: this.session,
      clock: systemClock,
      signal,
      filter: newFilter(),
      initialFilter: newInitialFilter(),
      onSync: (response) => {
        inSync.resolve();
        this.#take(response);
      },
    });
    signal.addEventListener("abort", () => inSync.resolve());
    return { inSync: inSync.promise, ended };
  }

  #take(response: SyncResponse): void {
    for (const { content } of response.joined.get(this.rooms.config)?.timeline ?? [])
      this.#awaited.get(String(content["mark"]))?.();
  }

  /** Whether the loop saw the mark before `signal` aborted. */
  sees(mark: string, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (seen: boolean): void => {
        this.#awaited.delete(mark);
        resolve(seen);
      };
      this.#awaited.set(mark, () => end(true));
      signal.addEventListener("abort", () => end(false));
    });
  }
}

/** The daemon's filter; each call gives another one, as each start of a daemon does. */
export const newFilter = (): unknown => new SyncScope().open().filter;

/** The same for the first request. */
export const newInitialFilter = (): unknown => new SyncScope().open().initialFilter;

const serverNameOf = (session: MatrixSession): ServerName =>
  parseServerName(session.userId.slice(session.userId.indexOf(":") + 1));

const sandboxes: readonly SandboxStatus[] = Array.from({ length: SANDBOXES }, (_, index) => ({
  principal: parsePrincipalName(`agent/worker-${index}`),
  digests: { spec: "", payload: "" },
  state: "running",
  pid: process.pid,
  proxy: { state: "running" },
  started_at: 0,
}));

const plainFetch: Fetch = (url, init) => fetch(url, init);

async function register(at: FleetHomeserver, username: string, by: Fetch): Promise<MatrixSession> {
  const { url: homeserver, registrationToken } = at;
  const registered = await registerWithToken({
    homeserver,
    fetch: by,
    username,
    password: PASSWORD,
    registrationToken,
  });
  if (registered.inUse) throw new Error(`${username} exists already`);
  return new MatrixSession({ homeserver, fetch: by, userId: registered.userId, token: registered.token });
}

async function atOnce<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const work = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await act(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}
