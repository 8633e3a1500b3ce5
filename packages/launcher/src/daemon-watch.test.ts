import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { daemonWatchFile, type Layout } from "@bureau/os/layout";
import { waitUntilGone } from "@bureau/os/process-end";
import { identify, type ProcessId } from "@bureau/os/process-table";
import { silentLog } from "@bureau/os/testing/silent-log";
import { DaemonWatch } from "./daemon-watch.ts";

const SOON_MS = 150;
let layout: Layout;
let daemon: ProcessId;
const stops: (() => void)[] = [];

beforeEach(() => {
  const root = mkdtempSync(join(tmpdir(), "dw-"));
  layout = { runDir: join(root, "run"), stateDir: root, workspaceRoot: root, cacheRoot: root };
  mkdirSync(layout.runDir);
  const child = Bun.spawn(["sleep", "60"]);
  const found = identify(child.pid);
  if (found === undefined) throw new Error("no process");
  daemon = found;
  stops.push(
    () => child.kill("SIGKILL"),
    () => rmSync(root, { recursive: true }),
  );
});
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

const watch = (): DaemonWatch => {
  const made = new DaemonWatch({ layout, clock: systemClock, log: silentLog });
  stops.push(() => made[Symbol.dispose]());
  return made;
};
/** The state that a launcher leaves when it crashes, or replaces itself. */
const leave = (change: object = {}): void =>
  writeFileSync(
    daemonWatchFile(layout),
    JSON.stringify({
      pid: daemon.pid,
      start_ticks: daemon.startTicks,
      ends_at: Date.now() + SOON_MS,
      deadline_ms: 1_000,
      ...change,
    }),
  );
const lives = async (ms: number): Promise<boolean> => !(await waitUntilGone(daemon, ms, systemClock));

test("ends a daemon that does not report in time, and records that", async () => {
  const one = watch();
  one.begin(daemon, SOON_MS);
  expect(await lives(5_000)).toBe(false);
  expect(one.ended).toBe(daemon.pid);
  expect(existsSync(daemonWatchFile(layout))).toBe(false);
});

test("does not end a daemon that has reported, or that reports again and again", async () => {
  const one = watch();
  for (let count = 0; count < 4; count++) {
    one.begin(daemon, SOON_MS);
    await Bun.sleep(SOON_MS / 2);
  }
  one.release(daemon.pid);
  expect(await lives(2 * SOON_MS)).toBe(true);
  expect(existsSync(daemonWatchFile(layout))).toBe(false);
});

test("the next launcher continues the watch, with the same deadline", async () => {
  leave();
  const next = watch();
  expect(await lives(5_000)).toBe(false);
  expect(next.ended).toBe(daemon.pid);
});

test("a clock that is set back does not extend the deadline", async () => {
  leave({ ends_at: Date.now() + 3_600_000, deadline_ms: SOON_MS });
  watch();
  expect(await lives(5_000)).toBe(false);
});

test("a clock that is set forward does not shorten the deadline", async () => {
  const now = Date.now;
  watch().begin(daemon, 60_000);
  const left = readFileSync(daemonWatchFile(layout), "utf8");
  watch()[Symbol.dispose]();
  writeFileSync(daemonWatchFile(layout), left);
  Date.now = () => now() + 3_600_000;
  try {
    const next = watch();
    expect(await lives(2 * SOON_MS)).toBe(true);
    next.release(daemon.pid);
  } finally {
    Date.now = now;
  }
});

test("a daemon can report to the next launcher", async () => {
  leave();
  watch().release(daemon.pid);
  expect(await lives(2 * SOON_MS)).toBe(true);
});

test("does not kill another process with that pid, and ignores an unreadable file", async () => {
  leave({ start_ticks: daemon.startTicks - 1 });
  expect(watch().ended).toBeUndefined();
  expect(await lives(2 * SOON_MS)).toBe(true);
  writeFileSync(daemonWatchFile(layout), "{");
  expect(watch().ended).toBeUndefined();
});
