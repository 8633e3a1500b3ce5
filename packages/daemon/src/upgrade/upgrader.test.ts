/** Failures of builds that occur on a real machine only by chance. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, type Mock, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { runSyncLoop } from "@bureau/matrix/sync-loop";
import type { SyncResponse } from "@bureau/matrix/sync-response";
import { silentLog } from "@bureau/os/testing/silent-log";
import { tooBusy } from "./become.ts";
import { OFFLINE_MS_MAX } from "./next.ts";
import { type Flaw, makeEnvironment, UpgradeWorld } from "./testing/upgrade-world.ts";
import { readUpgradeState } from "./upgrade-state.ts";
import { trialBackoff } from "./upgrader.ts";

const folder = fs.mkdtempSync(join(tmpdir(), "bu-"));
let [one, two] = ["", ""];
let root: string;
let count = 0;
beforeAll(() => {
  one = makeEnvironment(join(folder, "one"), "1");
  two = makeEnvironment(join(folder, "two"), "2");
});
beforeEach(() => {
  root = join(folder, `machine-${++count}`);
  UpgradeWorld.prepare(root, one);
});
afterAll(() => fs.rmSync(folder, { recursive: true }));

const world = (flaw: Flaw, request_id = "r1"): UpgradeWorld =>
  new UpgradeWorld(root, { request_id, path: two }, flaw);
const written = () => readUpgradeState(join(root, "state/upgrade-state.json"), silentLog);

let full: Mock<typeof fs.writeSync> | undefined;
/** Every write fails from now on. */
function fillDisk(): void {
  full = spyOn(fs, "writeSync").mockImplementation(() => {
    throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  });
}
afterEach(() => full?.mockRestore());

test("detects a launcher that ends while it soaks, although the old one answers in its place", async () => {
  const machine = world("launcher-exits");
  await machine.runToTheEnd();
  expect(machine.said?.history[0]).toMatchObject({
    outcome: "rolled-back",
    reason: "the new launcher: it ended, and the previous launcher runs again",
  });
  expect([machine.booted, machine.launcherFrom]).toEqual([one, one]);
});

test("starts and stops no sandbox until a new launcher has proved that it knows all of them", async () => {
  const good = world("none");
  await good.runToTheEnd();
  const asked = good.acts.indexOf("exec-update");
  expect(good.acts.slice(asked - 1, asked + 2)).toEqual(["pause", "exec-update", "resume"]);
  root = join(folder, "forgets");
  UpgradeWorld.prepare(root, one);
  const bad = world("forgets");
  await bad.runToTheEnd();
  // From the first launcher until the old daemon controls the old launcher again.
  const [first, last] = [bad.acts.indexOf("exec-update"), bad.acts.lastIndexOf("exec-update")];
  expect(bad.acts.slice(first, last)).not.toContain("resume");
});

test("does not replace the launcher while a slow sandbox starts or stops, and gives that reason", async () => {
  const machine = world("none");
  machine.isBusy = true;
  await machine.runToTheEnd();
  expect(machine.said?.history[0]).toMatchObject({ outcome: "rolled-back", reason: tooBusy });
  expect(machine.acts).not.toContain("exec-update");
});

test("rolls back a boot link that moved but may not be durable, with everything else", async () => {
  const machine = world("none");
  const { openSync } = fs;
  const failing = spyOn(fs, "openSync").mockImplementation((path, ...rest) => {
    if (path === dirname(machine.bootLink)) throw new Error("EIO: i/o error, open");
    return openSync(path, ...rest);
  });
  machine.onExec = () => {
    // The old daemon, on a disk that has room again.
    if (machine.executed.length > 0) failing.mockRestore();
  };
  await machine.runToTheEnd();
  failing.mockRestore();
  expect(machine.executed).toEqual([two, one]);
  expect(machine.said?.history[0]).toMatchObject({
    outcome: "rolled-back",
    reason: expect.stringContaining("EIO: i/o error, open"),
  });
  expect([machine.booted, machine.launcherFrom]).toEqual([one, one]);
});

test("the launcher does not end the old daemon, back in the same process, for the new one's deadline", async () => {
  const machine = world("deaf");
  await machine.runToTheEnd();
  expect(machine.executed).toEqual([two, one]);
  expect(machine.acts).toContain("watched-ok");
});

test("a homeserver that the old daemon cannot reach either, for a moment, is no fault of the new build", async () => {
  const machine = world("none");
  // The start succeeds; then the homeserver is unreachable until the old daemon has run again for a while.
  const running = machine.runToTheEnd();
  machine.outage = 2;
  await running;
  expect(machine.executed).toEqual([two, one, two]);
  expect(machine.said?.history.map(({ outcome }) => outcome)).toEqual(["succeeded"]);
});

test.each([0, 0.5, 0.99])(
  "reaches a homeserver again in time after an outage of seven seconds (jitter %d)",
  async (jitter) => {
    let now = 0;
    const sleep = async (ms: number): Promise<void> => {
      now += ms;
    };
    const stop = new AbortController();
    const sync = async (): Promise<SyncResponse> => {
      now += 100;
      if (now > 1_000 && now < 8_000) throw new BureauError("unavailable", "it is away");
      return { nextBatch: String(now), joined: new Map(), invited: new Map(), left: [] };
    };
    let lost = 0;
    await runSyncLoop({
      session: { sync },
      clock: { now: () => now, monotonic: () => now, sleep },
      signal: stop.signal,
      random: () => jitter,
      backoff: trialBackoff,
      onSync: () => {},
      onConnection: (connected) => {
        if (!connected) lost = now;
        else if (lost > 0) stop.abort();
      },
    });
    expect(now - lost).toBeLessThan(OFFLINE_MS_MAX);
  },
);

test("a homeserver that answers no daemon for a while is no fault of the new build", async () => {
  const machine = world("none");
  machine.hangMs = 32_000;
  await machine.runToTheEnd();
  expect(machine.executed).toEqual([two, one, two]);
  expect(machine.said?.history.map(({ outcome }) => outcome)).toEqual(["succeeded"]);
});

test("does not roll back a launcher that misses one answer while it soaks", async () => {
  const machine = world("none");
  machine.unheard = 20;
  await machine.runToTheEnd();
  expect(machine.said?.history.map(({ outcome }) => outcome)).toEqual(["succeeded"]);
});

test("a full disk refuses a build, and a daemon that starts meanwhile reads that from the room", async () => {
  const machine = world("none");
  fillDisk();
  await machine.runToTheEnd();
  const refused = { outcome: "refused", reason: "ENOSPC: no space left on device, write" };
  expect(machine.said?.history[0]).toMatchObject(refused);
  expect(written().history).toEqual([]);
  // Another daemon starts with an empty disk.
  const next = world("none");
  next.said = machine.said;
  await next.runToTheEnd();
  expect([next.executed, next.said?.history.length]).toEqual([[], 1]);
  full?.mockRestore();
  const later = world("none");
  later.said = next.said;
  await later.runToTheEnd();
  expect(written().history[0]).toMatchObject(refused);
  await world("none", "r2").runToTheEnd();
  expect(written().history.map(({ outcome }) => outcome)).toEqual(["succeeded", "refused"]);
});

test("rolls back a new build that finds the disk full, with that reason", async () => {
  const machine = world("none");
  machine.onExec = () => fillDisk();
  await machine.runToTheEnd();
  expect(machine.said?.history[0]).toMatchObject({
    outcome: "rolled-back",
    reason: "ENOSPC: no space left on device, write",
  });
  expect(machine.executed.slice(0, 2)).toEqual([two, one]);
  expect([machine.booted, machine.launcherFrom]).toEqual([one, one]);
});

test("removes sandboxes during an upgrade although the disk is full", async () => {
  const machine = world("none");
  machine.onExec = () => {
    fillDisk();
    expect(() => machine.upgrader?.removes("agent/worker")).not.toThrow();
  };
  await machine.runToTheEnd();
  expect(machine.said?.history[0]?.outcome).toBe("rolled-back");
});

test("a homeserver restart while a new build soaks is no fault of the build", async () => {
  const machine = world("none");
  machine.blipMs = 4_000;
  await machine.runToTheEnd();
  expect(machine.executed).toEqual([two]);
  expect(machine.said?.history[0]?.outcome).toBe("succeeded");
  root = join(folder, "long");
  UpgradeWorld.prepare(root, one);
  const long = world("none");
  long.blipMs = 600_000;
  await long.runToTheEnd();
  expect(long.executed).toEqual([two, one]);
  expect(long.said?.history[0]?.reason).toContain("could no longer be reached");
});
