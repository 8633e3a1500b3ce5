/** Memory and CPU of processes as the kernel accounts for them. */
import { readdirSync, readFileSync } from "node:fs";
import { cpuTicksOf, identify, type ProcessId } from "@bureau/os/process-table";

/**
 * Proportional set size in MB: private pages, plus each shared page divided by how many share it
 * (/proc/<pid>/smaps_rollup). 0 for a process that is gone.
 */
export function pssMb(pid: number): number {
  try {
    const kb = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1];
    return Number(kb ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** CPU seconds used by the processes while `act` runs, per second of it. */
export async function cpuShare(pids: readonly number[], act: () => Promise<unknown>): Promise<number> {
  const processes = pids.map(identify).filter((id): id is ProcessId => id !== undefined);
  const ticks = (): number => processes.reduce((sum, process) => sum + (cpuTicksOf(process) ?? 0), 0);
  const [before, started] = [ticks(), performance.now()];
  await act();
  // USER_HZ is 100 on Linux (sysconf(_SC_CLK_TCK)).
  return (ticks() - before) / 100 / ((performance.now() - started) / 1000);
}

/** CPU milliseconds that the live threads of a process have used (/proc/<pid>/task/<tid>/schedstat, in ns). */
export function cpuMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.reduce((sum, thread) => {
    try {
      return sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]) / 1e6;
    } catch {
      // The thread has just ended.
      return sum;
    }
  }, 0);
}
