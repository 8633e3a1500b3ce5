/** The resource limits of a sandbox. Pure: from its template, with defaults from the size of the host. */
import type { ProcessLimit } from "@bureau/os/posix";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";

export type ResourceLimits = {
  /** Of memory, including its tmpfs; without swap. */
  readonly memoryBytes: number;
  /** Processes and threads at a time, without bubblewrap's own. */
  readonly pids: number;
  /** Its share of a busy processor, 1 to 10,000. The default is 100. */
  readonly cpuWeight: number;
  /** Of each tmpfs without a size in its template. */
  readonly tmpfsBytes: number;
  /** Open files of one process. */
  readonly openFiles: number;
};

const MEBIBYTE = 1 << 20;
/** Half of the host's memory stays free for everything else. */
const MEMORY_SHARE = 1 / 2;
const MEMORY_BYTES_MIN = 256 * MEBIBYTE;
/** A browser, or a build on many cores, needs hundreds. */
const PIDS = 4_096;
const OPEN_FILES = 65_536;
/** bubblewrap outside and inside, and what it starts before the program. */
export const PIDS_OF_BWRAP = 4;
/** The kernel's conversion: 1024 shares of version 1 are a weight of 100. */
const SHARES_OF_100 = 1_024;

/** A number that is absent or 0 means the default, as in the reference. */
export function resourceLimits(resources: SandboxSpec["resources"], hostMemoryBytes: number): ResourceLimits {
  const { memory_limit_mb: megabytes = 0, pids_limit: pids = 0, cpu_shares: shares = 0 } = resources ?? {};
  const memoryBytes =
    megabytes > 0
      ? megabytes * MEBIBYTE
      : Math.max(Math.floor(hostMemoryBytes * MEMORY_SHARE), MEMORY_BYTES_MIN);
  return {
    memoryBytes,
    pids: pids > 0 ? pids : PIDS,
    cpuWeight: shares > 0 ? Math.min(Math.max(Math.round((shares * 100) / SHARES_OF_100), 1), 10_000) : 100,
    // The kernel's default for a tmpfs: half of the memory.
    tmpfsBytes: Math.floor(memoryBytes / 2),
    openFiles: OPEN_FILES,
  };
}

/**
 * The limits of each process, independent of control groups. The kernel counts processes within the sandbox's user
 * namespace (before Linux 5.14: all processes of the user), and does not limit them when the launcher is root.
 */
export const processLimits = ({ pids, openFiles }: ResourceLimits): ProcessLimit[] => [
  { resource: "core", most: 0 },
  { resource: "nofile", most: openFiles },
  { resource: "nproc", most: pids + PIDS_OF_BWRAP },
];
