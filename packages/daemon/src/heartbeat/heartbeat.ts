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
  const meter = new UsageMeter();
  for (let beat = 1; !signal.aborted; beat++) {
    const sandboxes = deps.sandboxes();
    const usage = meter.sample(sandboxes, deps.clock.monotonic());
    try {
      const content = statusOf(deps, usage, sandboxes);
      await deps.session.putState(
        deps.room,
        eventTypes.machineStatus,
        stateKeyOf(deps.machine),
        content,
        signal,
      );
      if (beat % BEATS_A_LOOK === 0) await deps.publishFacts();
    } catch (error) {
      if (signal.aborted) return;
      if (isRevoked(error)) throw error;
      deps.log.debug("heartbeat.failed", "a heartbeat could not be sent", { error });
    }
    await deps.clock.sleep(deps.intervalMs, signal);
  }
}

function statusOf(deps: HeartbeatDeps, usage: Usage, sandboxes: readonly SandboxStatus[]): MachineStatus {
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
