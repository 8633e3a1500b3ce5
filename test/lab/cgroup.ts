/**
 * Control groups of a lab: one per lab, below it one per machine, so that machines do not share a group and a machine's
 * processes can be ended at once. They lie in the host's unified hierarchy.
 *
 * ```
 * <unified>/bureau-lab-<tag>/<machine>/supervisor             systemd-nspawn
 *                                      payload                what the machine sees as its root group
 *                                      payload/lab.run/<n>    one command the harness runs inside
 * ```
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { identify, signalProcess } from "@bureau/os/process-table";

/** Groups can be removed a moment after their last process ended. */
const REMOVAL_MS_MAX = 5_000;

const KILL_ROUNDS_MAX = 10;

export const cgroupName = (tag: string): string => `bureau-lab-${tag}`;

/** Where the unified hierarchy is mounted. @throws BureauError `unsupported` when it is not */
function unifiedHierarchy(): string {
  const mount = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "))
    .find(([, , type]) => type === "cgroup2");
  if (mount?.[1] !== undefined) return mount[1];
  throw new BureauError("unsupported", "This host has no unified control group hierarchy (cgroup2) mounted", {
    hint: "machines of the lab run systemd, which needs it; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
  });
}

/** The group of one machine. */
export const machineCgroup = (tag: string, machine: string): string =>
  join(unifiedHierarchy(), cgroupName(tag), machine);

/** Makes the group when it is missing; `path` is below the lab's. */
export function makeCgroup(path: string): string {
  mkdirSync(path, { recursive: true });
  return path;
}

/** Kills every process of the group and of those below it. */
export function killCgroup(path: string): void {
  if (existsSync(path)) writeFileSync(join(path, "cgroup.kill"), "1");
}

/**
 * Kills every process of the group except `spared`, a program that entered a machine. It ends after it has reaped its child.
 * If killed, it would leave a child that no process in the machine can reap.
 */
export function killExcept(path: string, spared: number): void {
  // A killed process may just have started another.
  for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
    const pids = readFileSync(join(path, "cgroup.procs"), "utf8").split("\n").map(Number);
    const others = pids.flatMap((pid) => (pid > 0 && pid !== spared ? (identify(pid) ?? []) : []));
    if (others.length === 0) return;
    for (const other of others) signalProcess(other, "SIGKILL");
  }
}

/** True while a process is in the group or below it. */
export const isPopulated = (path: string): boolean =>
  existsSync(path) && readFileSync(join(path, "cgroup.events"), "utf8").includes("populated 1");

/** Removes the lab's groups in every hierarchy; waits for processes that are about to be gone. */
export async function removeCgroups(tag: string): Promise<void> {
  killCgroup(join(unifiedHierarchy(), cgroupName(tag)));
  await waitFor(
    async () => (hierarchies().every((at) => removeTree(join(at, cgroupName(tag)))) ? true : undefined),
    {
      timeoutMs: REMOVAL_MS_MAX,
      clock: systemClock,
    },
  );
}

/** Removes the group when nothing runs in it or below it; true when it is gone. */
export function removeTree(path: string): boolean {
  if (!existsSync(path)) return true;
  try {
    const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    for (const { name } of below) removeTree(join(path, name));
    rmdirSync(path);
    return true;
  } catch {
    return false;
  }
}

const hierarchies = (): string[] =>
  readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "))
    .flatMap(([, at, type]) => (at !== undefined && (type === "cgroup2" || type === "cgroup") ? [at] : []));
