/**
 * How busy the machine and each principal are, from /proc. Shares of the processor are taken between one sample and the
 * next, so the first has none.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { useOf } from "@bureau/os/process-table";
import type { MachineStatus } from "@bureau/schema/events";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import { readMeminfo } from "./machine-info.ts";

/** Clock ticks in a second on Linux (USER_HZ, proc(5)). */
const TICKS_PER_SECOND = 100;
/** Up to this share a principal counts as idle (wire facts, section 12.1). */
const IDLE_PERCENT_MAX = 1;
/** Processes counted below one sandbox. */
const PROCESSES_MAX = 4_096;
const PAGE_KB = 4;

type PrincipalUse = NonNullable<MachineStatus["principals"]>[string];

export type Usage = {
  readonly cpuPercent: number;
  readonly memoryUsedMb: number;
  readonly uptimeSeconds: number;
  /** By principal name. */
  readonly principals: ReadonlyMap<string, PrincipalUse>;
};

type Sample = { readonly pid: number; readonly ticks: number; readonly at: number };

export class UsageMeter {
  #machine: { busy: number; total: number } | undefined;
  /** Ticks of each sandbox at the last sample, with the pid they are of. */
  #sandboxes = new Map<string, Sample>();

  /** `now` is monotonic, in milliseconds. */
  sample(sandboxes: readonly SandboxStatus[], now: number): Usage {
    const before = this.#machine;
    this.#machine = machineTicks();
    const total = before === undefined ? 0 : this.#machine.total - before.total;
    const busy = before === undefined ? 0 : this.#machine.busy - before.busy;
    const memory = readMeminfo();
    const used = (memory.get("MemTotal") ?? 0) - (memory.get("MemAvailable") ?? 0);
    return {
      cpuPercent: total > 0 ? clampPercent((100 * busy) / total) : 0,
      memoryUsedMb: Math.max(0, Math.floor(used / 1024)),
      uptimeSeconds: Math.floor(Number(readFileSync("/proc/uptime", "utf8").split(" ")[0])),
      principals: this.#principals(sandboxes, now),
    };
  }

  #principals(sandboxes: readonly SandboxStatus[], now: number): Map<string, PrincipalUse> {
    const next = new Map<string, Sample>();
    const uses = new Map<string, PrincipalUse>();
    for (const { principal, pid, state } of sandboxes) {
      if (state !== "running" || pid === undefined) continue;
      const { ticks, memoryKb } = treeUse(pid);
      const before = this.#sandboxes.get(principal);
      next.set(principal, { pid, ticks, at: now });
      const memory_mb = Math.floor(memoryKb / 1024);
      if (before === undefined || before.pid !== pid || now <= before.at) {
        uses.set(principal, { cpu_percent: 0, memory_mb, status: "starting" });
        continue;
      }
      const available = ((now - before.at) / 1_000) * TICKS_PER_SECOND * availableParallelism();
      // A process that ended took its ticks with it, so the difference may be below zero.
      const cpu_percent = clampPercent((100 * Math.max(0, ticks - before.ticks)) / available);
      const status = cpu_percent > IDLE_PERCENT_MAX ? "running" : "idle";
      uses.set(principal, { cpu_percent, memory_mb, status });
    }
    this.#sandboxes = next;
    return uses;
  }
}

const clampPercent = (value: number): number => Math.min(100, Math.max(0, Math.round(value)));

function machineTicks(): { busy: number; total: number } {
  const line = readFileSync("/proc/stat", "utf8").split("\n", 1)[0] ?? "";
  // user nice system idle iowait irq softirq steal; guest time is in user already (proc(5)).
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  const total = ticks.reduce((sum, value) => sum + value, 0);
  return { busy: total - (ticks[3] ?? 0) - (ticks[4] ?? 0), total };
}

/** A process and everything below it. */
function treeUse(root: number): { ticks: number; memoryKb: number } {
  let ticks = 0;
  let memoryKb = 0;
  const pending = [root];
  for (let seen = 0; seen < PROCESSES_MAX; seen++) {
    const pid = pending.pop();
    if (pid === undefined) break;
    const use = useOf(pid);
    if (use === undefined) continue;
    ticks += use.cpuTicks;
    memoryKb += use.residentPages * PAGE_KB;
    pending.push(...use.children);
  }
  return { ticks, memoryKb };
}
