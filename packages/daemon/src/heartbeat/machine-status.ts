/** What a heartbeat says. It fits into one event, however many sandboxes run. */
import type { ChainHead } from "@bureau/schema/audit";
import type { MachineStatus } from "@bureau/schema/events";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import { type PrincipalName, parsePrincipalName, type UserId } from "@bureau/schema/refs";
import type { Usage } from "../hardware/usage.ts";

/** An event has 64 KiB (Matrix specification, size limits); some of it is not this list. */
const PRINCIPALS_BYTES_MAX = 56_000;

type Principal = readonly [UserId, NonNullable<MachineStatus["principals"]>[string]];

/** The content of one heartbeat. Principals that do not fit are counted in `principals_omitted`. */
export function machineStatus(
  deps: {
    readonly machine: UserId;
    readonly userOf: (account: PrincipalName) => UserId;
    readonly auditHead: () => ChainHead | undefined;
  },
  usage: Usage,
  sandboxes: readonly SandboxStatus[],
): MachineStatus {
  const all = [...usage.principals].map(
    ([account, use]): Principal => [deps.userOf(parsePrincipalName(account)), use],
  );
  const listed = thatFit(all);
  const head = deps.auditHead();
  return {
    principal: deps.machine,
    cpu_percent: usage.cpuPercent,
    memory_used_mb: usage.memoryUsedMb,
    sandboxes: { running: sandboxes.filter(({ state }) => state === "running").length, idle: 0 },
    uptime_seconds: usage.uptimeSeconds,
    ...(listed.length > 0 ? { principals: Object.fromEntries(listed) } : {}),
    ...(listed.length < all.length ? { principals_omitted: all.length - listed.length } : {}),
    ...(head === undefined ? {} : { audit_head: head }),
  };
}

/** Busy principals first, so that those left out are idle. */
function thatFit(all: readonly Principal[]): readonly Principal[] {
  let bytes = 0;
  const ends = ([user, use]: Principal): boolean => {
    bytes += JSON.stringify({ [user]: use }).length;
    return bytes > PRINCIPALS_BYTES_MAX;
  };
  const byUse = [...all].sort(([, a], [, b]) => b.cpu_percent - a.cpu_percent);
  const end = byUse.findIndex(ends);
  return end < 0 ? all : byUse.slice(0, end);
}
