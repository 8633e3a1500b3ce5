/**
 * Other processes, as /proc shows them. A process is known by its pid and its start time together, so that a pid the
 * kernel gave to another process is never mistaken for ours, nor killed.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { errnoOf } from "@bureau/kit/errors";

/** Identifies a process: no other process has the same pair until the machine reboots. */
export type ProcessId = {
  readonly pid: number;
  /** Clock ticks since boot (field 22 of /proc/<pid>/stat, proc(5)). */
  readonly startTicks: number;
};

type Stat = ProcessId & {
  readonly parent: number;
  readonly state: string;
  readonly cpuTicks: number;
  readonly threads: number;
  readonly residentPages: number;
};

const lacksDescriptor = (error: unknown): boolean => ["EMFILE", "ENFILE"].includes(errnoOf(error) ?? "");

function readStat(pid: number): Stat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch (error) {
    // Without a free descriptor nothing is known of the process: it must not pass for ended.
    if (lacksDescriptor(error)) throw error;
    return undefined;
  }
  // The name, in parentheses, may contain any character: count fields from the last ")".
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const number = (field: number): number => Number(fields[field - 3]);
  return {
    pid,
    state: fields[0] ?? "",
    parent: number(4),
    startTicks: number(22),
    cpuTicks: number(14) + number(15),
    threads: number(20),
    residentPages: number(24),
  };
}

/** Only its exit status is left. */
const isEnded = ({ state }: Stat): boolean => state === "Z" || state === "X";

/** The identity of a live process; undefined when there is none, or only its zombie is left. */
export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid);
  return stat === undefined || isEnded(stat) ? undefined : { pid: stat.pid, startTicks: stat.startTicks };
}

/** Whether both are the same process, alive or not. */
export const isSameProcess = (one: ProcessId, other: ProcessId): boolean =>
  one.pid === other.pid && one.startTicks === other.startTicks;

/** Where there is no descriptor left to read its start time, any process with its pid counts. */
export function isAlive({ pid, startTicks }: ProcessId): boolean {
  try {
    return identify(pid)?.startTicks === startTicks;
  } catch (error) {
    if (!lacksDescriptor(error)) throw error;
    return hasProcess(pid);
  }
}

function hasProcess(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return errnoOf(error) !== "ESRCH";
  }
}

/** User and system time used so far, in clock ticks (100 a second on Linux); undefined when it is gone. */
export function cpuTicksOf(process: ProcessId): number | undefined {
  const stat = readStat(process.pid);
  return stat?.startTicks === process.startTicks ? stat.cpuTicks : undefined;
}

/** What a live process uses, and its children. */
export type ProcessUse = {
  /** User and system time so far, in clock ticks (100 a second on Linux). */
  readonly cpuTicks: number;
  readonly residentPages: number;
  readonly children: readonly number[];
};

/** Undefined when there is no such process. Opens two files of a process with one thread. */
export function useOf(pid: number): ProcessUse | undefined {
  const stat = readStat(pid);
  if (stat === undefined || isEnded(stat)) return undefined;
  const { cpuTicks, residentPages, threads } = stat;
  const children = threads === 1 ? childrenOfThread(pid, String(pid)) : childrenOf(pid);
  return { cpuTicks, residentPages, children };
}

/** Sends `signal` if exactly that process still lives; true when it was sent. */
export function signalProcess(target: ProcessId, signal: NodeJS.Signals | number): boolean {
  if (!isAlive(target)) return false;
  try {
    process.kill(target.pid, signal);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ESRCH") return false;
    throw error;
  }
}

/** Every live process whose command line holds all of `words`, each as a whole argument. */
export const findByArguments = (...words: string[]): ProcessId[] =>
  findProcesses((args) => words.every((word) => args.includes(word)));

/** Every live process whose command line `is` accepts. */
export function findProcesses(is: (args: readonly string[]) => boolean): ProcessId[] {
  const found: ProcessId[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    if (!is(argumentsOf(Number(entry)))) continue;
    const id = identify(Number(entry));
    if (id !== undefined) found.push(id);
  }
  return found;
}

/** The command line of a process; empty when it is gone. */
export function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  } catch {
    return [];
  }
}

/** True when the process itself listens on this TCP port, so that no other one answers there. */
export function listensOnTcp(pid: number, port: number): boolean {
  const sockets = new Set(
    ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((table) => listeningInodes(table, port)),
  );
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`, { encoding: "utf8" });
      return target.startsWith("socket:[") && sockets.has(target.slice(8, -1));
    });
  } catch {
    return false;
  }
}

/** State of a listening socket in /proc/net/tcp (proc(5), TCP_LISTEN). */
const LISTENING = "0A";

function listeningInodes(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  let text: string;
  try {
    text = readFileSync(table, "utf8");
  } catch {
    return [];
  }
  return text.split("\n").flatMap((line) => {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    return local?.endsWith(suffix) && state === LISTENING && inode !== undefined ? [inode] : [];
  });
}

/** Pids of the direct children of `pid`, zombies included; each thread's in order of their start. */
export function childrenOf(pid: number): number[] {
  let tasks: string[];
  try {
    tasks = readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
  return tasks.flatMap((task) => childrenOfThread(pid, task));
}

/** A thread that ended meanwhile has none: the kernel gave them to another thread of the process. */
function childrenOfThread(pid: number, task: string): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8");
    return text
      .split(" ")
      .filter((word) => word !== "")
      .map(Number);
  } catch {
    return [];
  }
}

/** All live processes below `pid`, nearest first. */
export const descendantsOf = (pid: number): ProcessId[] =>
  childrenOf(pid).flatMap((child) => {
    const id = identify(child);
    return id === undefined ? [] : [id, ...descendantsOf(child)];
  });

/** True when the process has a handler of its own for signal `number` (SigCgt of /proc/<pid>/status). */
export function catchesSignal(pid: number, number: number): boolean {
  try {
    const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "0";
    return ((BigInt(`0x${caught}`) >> BigInt(number - 1)) & 1n) === 1n;
  } catch {
    return false;
  }
}
