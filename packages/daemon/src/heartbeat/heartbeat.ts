/**
 * The machine's sign of life: `m.bureau.machine_status` in the machine's own config room, every interval, changed or not.
 * When other sandboxes run than the last heartbeat named, the next one follows within {@link LOOK_MS}. In its own room it
 * wakes only operators. In the fleet's machine room it would be news to every machine of the fleet, and its cost would grow
 * with the square of their number.
 *
 * The wire has it in the machine room, so a copy goes there: when other sandboxes run, and every
 * {@link COPY_MS} in any case, so that commands of earlier builds, which look only there, see it within 210 s. A fleet
 * controller (another implementation) calls a machine suspect after 30 s of silence and offline after 90 s, so while one
 * is in that room, every heartbeat is copied.
 */
import type { Runtime } from "@bureau/kit/runtime";
import { isRevoked, isTransient, MatrixError } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import type { ChainHead } from "@bureau/schema/audit";
import { eventTypes, type MachineStatus } from "@bureau/schema/events";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import {
  fleetOf,
  localpartOf,
  type PrincipalName,
  parseMachine,
  principalLocalpart,
  type RoomId,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { UsageMeter } from "../hardware/usage.ts";
import { machineStatus } from "./machine-status.ts";

type SenderDeps = Pick<Runtime, "clock"> & {
  readonly session: Pick<MatrixSession, "putState" | "getState">;
  readonly machine: UserId;
  readonly rooms: Readonly<Record<"config" | "fleetMachines", RoomId>>;
  readonly intervalMs: number;
  readonly sandboxes: () => readonly SandboxStatus[];
  readonly userOf: (account: PrincipalName) => UserId;
  /** The last audit event that the homeserver has; undefined before the first. */
  readonly auditHead: () => ChainHead | undefined;
};

export type HeartbeatDeps = SenderDeps &
  Pick<Runtime, "log"> & {
    /** Publishes again events that others have displaced. */
    readonly publishFacts: () => Promise<void>;
  };

/** Interval between looks at which sandboxes run. */
const LOOK_MS = 5_000;
/** Interval between checks of the machine's other published events. */
const BEATS_A_LOOK = 4;
/** The longest time between two copies in the machine room: five heartbeats. */
const COPY_MS = 150_000;
/** Interval between checks for a fleet controller, in heartbeats: less than the 90 s after which it calls the machine offline. */
const BEATS_A_CONTROLLER = 2;

/** Beats until `signal` aborts. A beat that cannot be sent is left out: the next says more. @throws when revoked */
export async function runHeartbeat(deps: HeartbeatDeps, signal: AbortSignal): Promise<void> {
  const heartbeat = new Heartbeat(deps);
  for (let beat = 1; !signal.aborted; beat++) {
    try {
      await heartbeat.send(signal);
      if (beat % BEATS_A_LOOK === 0) await deps.publishFacts();
    } catch (error) {
      if (signal.aborted) return;
      if (isRevoked(error)) throw error;
      const message = "a heartbeat could not be sent";
      if (isTransient(error)) deps.log.debug("heartbeat.failed", message, { error });
      else deps.log.warn("heartbeat.refused", message, { error });
    }
    await untilNextBeat(deps, heartbeat, signal);
  }
}

async function untilNextBeat(
  { clock, intervalMs }: HeartbeatDeps,
  heartbeat: Heartbeat,
  signal: AbortSignal,
): Promise<void> {
  for (let leftMs = intervalMs; leftMs > 0 && !signal.aborted; leftMs -= LOOK_MS) {
    await clock.sleep(Math.min(leftMs, LOOK_MS), signal);
    if (heartbeat.isOutdated) return;
  }
}

/** The heartbeats of one machine. */
export class Heartbeat {
  readonly #deps: SenderDeps;
  readonly #controller: UserId;
  readonly #meter = new UsageMeter();
  #beats = 0;
  #hasController = false;
  /** The sandboxes that the last heartbeat named. */
  #named = "";
  /** The last copy in the machine room: when, and which sandboxes ran. */
  #copied: { readonly at: number; readonly running: string } | undefined;

  constructor(deps: SenderDeps) {
    this.#deps = deps;
    const machine = parseMachine(localpartOf(deps.machine));
    this.#controller = userIdOf(
      principalLocalpart(fleetOf(machine), "service/fleet"),
      serverOf(deps.machine),
    );
  }

  /** Whether other sandboxes run than the last heartbeat named. */
  get isOutdated(): boolean {
    return namesOf(this.#deps.sandboxes()) !== this.#named;
  }

  /** @throws MatrixError */
  async send(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs } = this.#deps;
    const now = clock.monotonic();
    const sandboxes = this.#deps.sandboxes();
    const status = machineStatus(this.#deps, this.#meter.sample(sandboxes, now), sandboxes);
    const running = namesOf(sandboxes);
    this.#named = running;
    const isOwnWritten = await this.#writeOwn(status, signal);
    const isDue = this.#copied === undefined || now - this.#copied.at + intervalMs > COPY_MS;
    const everyBeat = (await this.#isControlled(signal)) || !isOwnWritten;
    if (!everyBeat && !isDue && this.#copied?.running === running) return;
    await this.#write("fleetMachines", status, everyBeat ? intervalMs : COPY_MS, signal);
    this.#copied = { at: now, running };
  }

  /** False when the levels of a config room that another implementation made do not let the machine write it. */
  async #writeOwn(status: MachineStatus, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#write("config", status, this.#deps.intervalMs, signal);
      return true;
    } catch (error) {
      if (error instanceof MatrixError && error.code === "forbidden") return false;
      throw error;
    }
  }

  async #write(
    room: keyof SenderDeps["rooms"],
    status: MachineStatus,
    withinMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { session, rooms, machine } = this.#deps;
    const content: MachineStatus = { ...status, heartbeat_interval_seconds: Math.ceil(withinMs / 1_000) };
    await session.putState(rooms[room], eventTypes.machineStatus, stateKeyOf(machine), content, signal);
  }

  /** Whether a fleet controller reads the machine room. */
  async #isControlled(signal: AbortSignal): Promise<boolean> {
    if (this.#beats++ % BEATS_A_CONTROLLER === 0) {
      const { session, rooms } = this.#deps;
      const member = await session.getState(rooms.fleetMachines, eventTypes.member, this.#controller, signal);
      this.#hasController = v.is(JoinedSchema, member);
    }
    return this.#hasController;
  }
}

const JoinedSchema = v.object({ membership: v.literal("join") });

const namesOf = (sandboxes: readonly SandboxStatus[]): string =>
  sandboxes
    .flatMap(({ principal, state }) => (state === "running" ? [principal] : []))
    .sort()
    .join(" ");
