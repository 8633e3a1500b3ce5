/**
 * The machine's sign of life: `m.bureau.machine_status` in the fleet's machine room, every interval, changed or not. A
 * fleet controller calls a machine suspect after 30 s of silence and offline after 90 s, so the interval is at most 30 s.
 */
import type { Runtime } from "@bureau/kit/runtime";
import { isRevoked } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, type MachineStatus } from "@bureau/schema/events";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import { parsePrincipalName, type RoomId, stateKeyOf, type UserId } from "@bureau/schema/refs";
import { type Usage, UsageMeter } from "../hardware/usage.ts";

export type HeartbeatDeps = Pick<Runtime, "clock" | "log"> & {
  readonly session: Pick<MatrixSession, "putState">;
  readonly machine: UserId;
  readonly room: RoomId;
  readonly intervalMs: number;
  /** Publishes again events that others have displaced. */
  readonly publishFacts: () => Promise<void>;
  readonly sandboxes: () => readonly SandboxStatus[];
  readonly userOf: (account: ReturnType<typeof parsePrincipalName>) => UserId;
};

/** Interval between checks of the machine's other published events. */
const BEATS_A_LOOK = 4;

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
      deps.log.debug("heartbeat.failed", "a heartbeat could not be sent", { error });
    }
    await deps.clock.sleep(deps.intervalMs, signal);
  }
}

type SenderDeps = Pick<HeartbeatDeps, "clock" | "session" | "machine" | "room" | "sandboxes" | "userOf">;

/** The heartbeats of one machine. */
export class Heartbeat {
  readonly #deps: SenderDeps;
  readonly #meter = new UsageMeter();

  constructor(deps: SenderDeps) {
    this.#deps = deps;
  }

  /** @throws MatrixError */
  async send(signal: AbortSignal): Promise<void> {
    const { session, room, machine, clock } = this.#deps;
    const sandboxes = this.#deps.sandboxes();
    const usage = this.#meter.sample(sandboxes, clock.monotonic());
    const content = statusOf(this.#deps, usage, sandboxes);
    await session.putState(room, eventTypes.machineStatus, stateKeyOf(machine), content, signal);
  }
}

function statusOf(
  deps: Pick<HeartbeatDeps, "machine" | "userOf">,
  usage: Usage,
  sandboxes: readonly SandboxStatus[],
): MachineStatus {
  const principals = [...usage.principals].map(
    ([account, use]) => [deps.userOf(parsePrincipalName(account)), use] as const,
  );
  return {
    principal: deps.machine,
    cpu_percent: usage.cpuPercent,
    memory_used_mb: usage.memoryUsedMb,
    sandboxes: { running: sandboxes.filter(({ state }) => state === "running").length, idle: 0 },
    uptime_seconds: usage.uptimeSeconds,
    ...(principals.length > 0 ? { principals: Object.fromEntries(principals) } : {}),
  };
}
