import { afterEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { systemClock } from "@bureau/kit/clock";
import { stopProcess, waitUntilGone } from "./process-end.ts";
import {
  argumentsOf,
  catchesSignal,
  childrenOf,
  cpuTicksOf,
  findByArguments,
  identify,
  isAlive,
  listensOnTcp,
  type ProcessId,
  signalProcess,
  useOf,
} from "./process-table.ts";
import { evalCommand } from "./runtime-command.ts";

const children: { kill(signal: "SIGKILL"): void }[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

/** A shell that has run `script` up to its `echo ready`. */
async function shell(
  script: string,
  ...args: string[]
): Promise<{ id: ProcessId; exited: Promise<number>; endInput: () => void }> {
  const child = Bun.spawn(["/bin/sh", "-c", script, "sh", ...args], { stdin: "pipe", stdout: "pipe" });
  children.push(child);
  const reader = child.stdout.getReader();
  await reader.read();
  const id = identify(child.pid);
  if (id === undefined) throw new Error("the shell is gone");
  return { id, exited: child.exited, endInput: () => void child.stdin.end() };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error("the condition never came true");
    await Bun.sleep(2);
  }
}

const waiting = "echo ready; read line";

describe("identity", () => {
  test("is the pid and its start, and ends with the process", async () => {
    const { id, exited } = await shell(waiting);
    expect(isAlive(id)).toBe(true);
    expect(identify(process.pid)?.startTicks).toBeLessThanOrEqual(id.startTicks);
    expect(signalProcess(id, "SIGKILL")).toBe(true);
    await exited;
    expect(isAlive(id)).toBe(false);
    expect(identify(id.pid)).toBeUndefined();
    expect(signalProcess(id, "SIGKILL")).toBe(false);
  });

  test("differs for another process with the same pid, which is not killed", async () => {
    const { id } = await shell(waiting);
    const former = { pid: id.pid, startTicks: id.startTicks - 1 };
    expect(isAlive(former)).toBe(false);
    expect(cpuTicksOf(former)).toBeUndefined();
    expect(signalProcess(former, "SIGKILL")).toBe(false);
    await stopProcess(former, 10, systemClock);
    expect(await waitUntilGone(former, 1_000, systemClock)).toBe(true);
    expect(isAlive(id)).toBe(true);
  });

  test("is read past a name full of blanks and parentheses", async () => {
    const { id } = await shell(`printf ') Z 1 (x' > /proc/$$/comm; ${waiting}`);
    expect(isAlive(id)).toBe(true);
    expect(childrenOf(process.pid)).toContain(id.pid);
  });

  test("is undefined for a zombie, although its pid is still in use", async () => {
    // The shell becomes a sleep, which never waits for the shell's child; that child ends at the end of its input.
    const { id, endInput } = await shell("exec 3<&0; (read line <&3) & echo ready; exec sleep 60 3<&-");
    await until(() => argumentsOf(id.pid)[0] === "sleep");
    const [zombie = 0] = childrenOf(id.pid);
    expect(identify(zombie)?.pid).toBe(zombie);
    endInput();
    await until(() => identify(zombie) === undefined);
    expect(childrenOf(id.pid)).toEqual([zombie]);
    expect(argumentsOf(zombie)).toEqual([]);
  });

  test("is undefined for a pid that no process has", () => {
    for (const pid of [0, -1, 2 ** 22 + 1, 1.5]) expect(identify(pid)).toBeUndefined();
    expect([childrenOf(-1), argumentsOf(-1), catchesSignal(-1, 15)]).toEqual([[], [], false]);
  });
});

describe("stopping", () => {
  test("sends SIGTERM only, when that ends the program", async () => {
    const { id, exited } = await shell(waiting);
    await stopProcess(id, 5_000, systemClock);
    expect(isAlive(id)).toBe(false);
    expect(await exited).toBe(143);
  });

  test("sends SIGKILL to a program that ignores SIGTERM", async () => {
    const { id, exited } = await shell(`trap '' TERM; ${waiting}`);
    expect(await waitUntilGone(id, 20, systemClock)).toBe(false);
    await stopProcess(id, 50, systemClock);
    expect(await exited).toBe(137);
  });
});

describe("queries", () => {
  test("distinguishes a handled signal from an ignored or default one", async () => {
    const { id } = await shell(`trap 'true' HUP; trap '' USR1; ${waiting}`);
    expect([1, 10, 12].map((signal) => catchesSignal(id.pid, signal))).toEqual([true, false, false]);
  });

  test("finds processes by whole arguments", async () => {
    const word = `word-${randomBytes(6).toString("hex")}`;
    const { id } = await shell(waiting, word, "second arg");
    expect(findByArguments(word)).toEqual([id]);
    expect(findByArguments(word, "second arg")).toEqual([id]);
    expect(findByArguments(word.slice(0, -1))).toEqual([]);
    expect(findByArguments(word, "second")).toEqual([]);
    expect(argumentsOf(id.pid)).toEqual(["/bin/sh", "-c", waiting, "sh", word, "second arg"]);
  });

  test("lists children", async () => {
    const { id } = await shell("sleep 60 & sleep 60 & echo ready; wait");
    const pids = childrenOf(id.pid);
    expect(pids).toHaveLength(2);
    await until(() => pids.every((pid) => argumentsOf(pid).join(" ") === "sleep 60"));
    for (const pid of pids) process.kill(pid, "SIGKILL");
  });

  test("says in one look what a process uses and which children it has", async () => {
    const { id } = await shell("sleep 60 & sleep 60 & echo ready; while :; do :; done");
    await until(() => (useOf(id.pid)?.cpuTicks ?? 0) >= 2);
    const use = useOf(id.pid);
    expect(use?.residentPages).toBeGreaterThan(0);
    expect(use?.children).toEqual(childrenOf(id.pid));
    expect(use?.children).toHaveLength(2);
    for (const pid of use?.children ?? []) process.kill(pid, "SIGKILL");
    await until(() => childrenOf(id.pid).every((pid) => useOf(pid) === undefined));
  });

  test("processor time grows with work", async () => {
    const { id } = await shell("echo ready; while :; do :; done");
    await until(() => (cpuTicksOf(id) ?? 0) >= 2);
  });
});

describe("a TCP port", () => {
  test("is reported for exactly the process that listens on it", async () => {
    const source =
      'const s = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() }); console.log(s.port)';
    const child = Bun.spawn(evalCommand(source), { stdout: "pipe", stderr: "inherit" });
    try {
      const { value } = await child.stdout.getReader().read();
      const port = Number(new TextDecoder().decode(value));
      expect(listensOnTcp(child.pid, port)).toBe(true);
      expect(listensOnTcp(process.pid, port)).toBe(false);
      expect(listensOnTcp(child.pid, port === 65_535 ? 1 : port + 1)).toBe(false);
    } finally {
      child.kill();
      await child.exited;
    }
    expect(listensOnTcp(child.pid, 1)).toBe(false);
  });
});
