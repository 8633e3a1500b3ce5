import { afterEach, expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "@bureau/kit/clock";
import { systemClock } from "@bureau/kit/clock";
import { endEventsFault, waitUntilGone, whenEnded } from "./process-end.ts";
import { identify, isAlive, type ProcessId } from "./process-table.ts";
import { evalCommand } from "./runtime-command.ts";

const left: ProcessId[] = [];
afterEach(() => {
  for (const { pid } of left.splice(0).filter(isAlive)) process.kill(pid, "SIGKILL");
});

/** Processes that are no children of this one: the runtime does not report their end. */
async function strangers(count: number): Promise<ProcessId[]> {
  const script = `for i in $(seq ${count}); do sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; done`;
  const pids = await new Response(Bun.spawn(["/bin/sh", "-c", script]).stdout).text();
  const ids = pids
    .trim()
    .split("\n")
    .flatMap((pid) => identify(Number(pid)) ?? []);
  left.push(...ids);
  expect(ids).toHaveLength(count);
  return ids;
}

/** A clock that only counts: a wait ends by an event, or never. */
function countingClock(): Clock & { sleeps: number } {
  const clock = {
    sleeps: 0,
    now: () => 0,
    monotonic: () => 0,
    sleep: (_ms: number, signal?: AbortSignal): Promise<void> => {
      clock.sleeps++;
      return new Promise((resolve) => signal?.addEventListener("abort", () => resolve(), { once: true }));
    },
  };
  return clock;
}

/**
 * Read calls of a program that watches these processes for 1.1 s (proc_pid_io(5)). It does nothing else: those of the
 * program that runs tests beside this one would count too.
 */
async function readsWhileWatching(ids: readonly ProcessId[]): Promise<number> {
  const code = `
    const { readFileSync } = require("node:fs");
    const { whenEnded } = await import(${JSON.stringify(join(import.meta.dir, "process-end.ts"))});
    for (const id of ${JSON.stringify(ids)}) whenEnded(id, () => {});
    const calls = () => Number(/^syscr: (\\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))[1]);
    const before = calls();
    await Bun.sleep(1_100);
    console.log(calls() - before);`;
  return JSON.parse(await new Response(Bun.spawn(evalCommand(code)).stdout).text()) as number;
}

/** Processes that this one holds a descriptor of. */
const heldProcesses = (): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes("pidfd");
    } catch {
      return false;
    }
  }).length;
async function untilHeld(count: number): Promise<void> {
  for (const end = Date.now() + 5_000; heldProcesses() !== count && Date.now() < end; ) await Bun.sleep(2);
  expect(heldProcesses()).toBe(count);
}

test("the kernel reports the end of many processes that are no children, without any lookup", async () => {
  expect(endEventsFault()).toBeUndefined();
  const ids = await strangers(100);
  const clock = countingClock();
  const waits = Promise.all(ids.map((id) => waitUntilGone(id, 60_000, clock)));
  expect(clock.sleeps).toBe(100);
  for (const { pid } of ids) process.kill(pid, "SIGKILL");
  expect(await waits).toEqual(ids.map(() => true));
  expect(clock.sleeps).toBe(100);
});

test("calls for exactly the process that ended, once, and watching reads nothing", async () => {
  const ids = await strangers(100);
  const ended: number[] = [];
  const first = Promise.withResolvers<void>();
  for (const [index, id] of ids.entries())
    whenEnded(id, () => {
      ended.push(index);
      first.resolve();
    });
  expect(await readsWhileWatching(ids)).toBeLessThan(20);
  process.kill(ids[42]?.pid ?? 0, "SIGKILL");
  await first.promise;
  expect(ended).toEqual([42]);
});

test("holds one descriptor for each process, until its end or until the watch ends", async () => {
  const ids = await strangers(20);
  // Those of earlier tests are killed, and their ends reported.
  await untilHeld(0);
  const called: number[] = [];
  const watches = ids.map(({ pid, startTicks }) => whenEnded({ pid, startTicks }, () => called.push(pid)));
  expect(heldProcesses()).toBe(20);
  for (const watch of watches.slice(0, 10)) watch[Symbol.dispose]();
  expect(heldProcesses()).toBe(10);
  const rest = ids.slice(10);
  for (const { pid } of ids) process.kill(pid, "SIGKILL");
  await untilHeld(0);
  expect(called.sort()).toEqual(rest.map(({ pid }) => pid).sort());
  // The same numbers may belong to other files now.
  for (const watch of watches) watch[Symbol.dispose]();
});

test("reports a process that ended before, or whose pid another process has, but not at once", async () => {
  const [live] = await strangers(1);
  const former = { pid: live?.pid ?? 0, startTicks: (live?.startTicks ?? 0) - 1 };
  const calls: string[] = [];
  whenEnded(former, () => calls.push("former"));
  whenEnded({ pid: 2 ** 22 + 1, startTicks: 1 }, () => calls.push("absent"));
  whenEnded(former, () => calls.push("disposed"))[Symbol.dispose]();
  expect(calls).toEqual([]);
  await Promise.resolve();
  expect(calls).toEqual(["former", "absent"]);
  expect(isAlive(live as ProcessId)).toBe(true);
});

test("looks processes up where there are no descriptors left, and says so", async () => {
  const path = (name: string): string => JSON.stringify(join(import.meta.dirname, name));
  const source = `
    import { readdirSync } from "node:fs";
    import { limitProcess } from ${path("posix.ts")};
    import { endEventsFault, waitUntilGone } from ${path("process-end.ts")};
    import { identify } from ${path("process-table.ts")};
    const id = identify(Number(process.env.TARGET));
    limitProcess(process.pid, [{ resource: "nofile", most: 0 }]);
    console.log(endEventsFault());
    const clock = { now: Date.now, monotonic: () => performance.now(), sleep: (ms, signal) => new Promise((resolve) => {
      const timer = setTimeout(resolve, ms); signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }); }) };
    let isOver = false;
    const gone = waitUntilGone(id, 60_000, clock).finally(() => { isOver = true; });
    await Bun.sleep(50);
    console.log(isOver);
    process.kill(id.pid, "SIGKILL");
    console.log(await gone);`;
  const [target] = await strangers(1);
  const child = Bun.spawn(evalCommand(source), { env: { TARGET: String(target?.pid) }, stderr: "inherit" });
  expect(await new Response(child.stdout).text()).toBe("pidfd_open: EMFILE\nfalse\ntrue\n");
});

/** Runs `source` in a program of its own, with the targets' pids in `pids`; returns what it prints. */
async function inProgram(targets: readonly ProcessId[], source: string): Promise<string> {
  const path = (name: string): string => JSON.stringify(join(import.meta.dirname, name));
  const whole = `
    import { closeSync, openSync, readdirSync } from "node:fs";
    import { limitProcess } from ${path("posix.ts")};
    import { whenEnded } from ${path("process-end.ts")};
    import { identify } from ${path("process-table.ts")};
    const pids = ${JSON.stringify(targets.map(({ pid }) => pid))};
    const files = [];
    const useUp = (spare) => {
      try { for (;;) files.push(openSync("/dev/null", "r")); } catch {}
      for (let n = 0; n < spare; n++) closeSync(files.pop());
    };
    const until = async (condition) => {
      for (const end = Date.now() + 20_000; !condition() && Date.now() < end; ) await Bun.sleep(5);
      return condition();
    };
    ${source}`;
  const child = Bun.spawn(evalCommand(whole), { stderr: "inherit" });
  return (await new Response(child.stdout).text()).trim();
}

test("watches more processes than there are descriptors, and leaves half of these to the program", async () => {
  const targets = await strangers(100);
  const printed = await inProgram(
    targets,
    `limitProcess(process.pid, [{ resource: "nofile", most: 64 }]);
    const ended = new Set();
    for (const pid of pids) whenEnded(identify(pid), () => ended.add(pid));
    console.log(readdirSync("/proc/self/fd").length <= 40);
    for (const pid of pids) process.kill(pid, "SIGKILL");
    console.log(await until(() => ended.size === pids.length));`,
  );
  expect(printed).toBe("true\ntrue");
});

test("reports ends also when the program has no descriptor left for the set, or for a moment", async () => {
  const targets = await strangers(3);
  const printed = await inProgram(
    targets,
    `limitProcess(process.pid, [{ resource: "nofile", most: 256 }]);
    const ended = [];
    const watch = (pid) => whenEnded(identify(pid), () => ended.push(pid));
    const reports = async (pid) => {
      process.kill(pid, "SIGKILL");
      console.log(await until(() => ended.includes(pid)));
    };
    // One low number is free: enough for a descriptor of the process, but not for the set.
    const low = openSync("/dev/null", "r");
    useUp(0);
    const id = identify.bind(undefined, pids[0]);
    closeSync(low);
    whenEnded(id(), () => ended.push(pids[0]));
    await reports(pids[0]);
    for (const file of files.splice(0, 8)) closeSync(file);
    watch(pids[1]);
    watch(pids[2]);
    await Bun.sleep(50);
    useUp(0);
    await reports(pids[1]);
    useUp(0);
    await reports(pids[2]);`,
  );
  expect(printed).toBe("true\ntrue\ntrue");
});

test("a wait without an end is over after its time", async () => {
  const [live] = await strangers(1);
  expect(await waitUntilGone(live as ProcessId, 5, systemClock)).toBe(false);
});
