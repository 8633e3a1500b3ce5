/**
 * Runs in the guest, as root, once in the root control group and once as an ordinary user whose tmux server is
 * in a delegated group, as systemd does for `bureau-terminals.service`. Prints `ok NAME` or `not ok NAME: why`
 * for each case: the launcher is the real one, and so is everything below it.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { groupOf } from "@bureau/launcher/limits/control-groups";
import { TestLauncher } from "@bureau/launcher/testing/launcher-fixture";
import { tmuxSocket } from "@bureau/os/layout";

/** `tmuxPipe`: a pipe that passes the socket's path to a tmux server that already is in its group. */
const [who = "", build = "", tmuxPipe] = process.argv.slice(2);
const HIERARCHY = "/sys/fs/cgroup";
const PATIENCE_MS = 240_000;
/** An emulated processor on a busy host: milliseconds become seconds, so the limits are wide. */
const SLOWNESS = 20;
/** A sleep of this length outlasts every limit of the test. */
const DEADLINE_MS_MIN = 1_000;
const slowClock: Clock = {
  now: systemClock.now,
  monotonic: () => systemClock.monotonic() / SLOWNESS,
  sleep: (ms, signal) => systemClock.sleep(ms < DEADLINE_MS_MIN ? ms : ms * SLOWNESS, signal),
};

const launcher = new TestLauncher();

const cases: Record<string, () => Promise<void>> = {
  "all limits are enforced": async () => {
    const { limits } = await launcher.call("list-sandboxes", {});
    equal(limits, { level: "enforced" });
  },
  "a program that takes more memory than it may is killed with 137, and its neighbour runs on": async () => {
    await launcher.create("agent/neighbour", "sleep 1000");
    const { exit } = await ended("agent/hog", "head -c 60000000 /dev/zero | tail -c 50000000 | wc -c", {
      memory_limit_mb: 24,
    });
    equal(exit?.code, 137);
    contains(exit?.description, "memory");
    equal((await launcher.status("agent/neighbour"))?.state, "running");
    await launcher.call("destroy-sandbox", { principal: "agent/neighbour", force: true });
  },
  "files in memory count: what fills a tmpfs with empty ones ends within its limit": async () => {
    const script = "i=0; while :; do i=$((i+1)); : >/tmp/$i; done";
    const { exit } = await ended("agent/inodes", script, { memory_limit_mb: 12 });
    equal(exit?.code, 137);
    contains(exit?.description, "memory");
  },
  "a program that starts more processes than it may is told so": async () => {
    const script = "(i=0; while [ $i -lt 60 ]; do sleep 60 >/dev/null 2>&1 & i=$((i+1)); done) 2>&1; exit 3";
    await ended("agent/forks", script, { pids_limit: 20 });
    contains(await launcher.output("agent/forks"), "fork");
  },
  "limits are what the template says, and defaults where it says nothing": async () => {
    await launcher.create("agent/said", "sleep 1000", {
      spec: { resources: { memory_limit_mb: 100, pids_limit: 30, cpu_shares: 512 } },
    });
    const said = await folderOf("agent/said");
    equal(fileOf(said, "memory.max"), String(100 << 20));
    equal(fileOf(said, "memory.oom.group"), "1");
    equal(fileOf(said, "pids.max"), "34");
    equal(fileOf(said, "cpu.weight"), "50");
    await launcher.create("agent/silent", "sleep 1000");
    const silent = await folderOf("agent/silent");
    for (const file of ["memory.max", "pids.max"]) equal(/^\d+$/.test(fileOf(silent, file)), true);
    equal(fileOf(silent, "cpu.weight"), "100");
    await launcher.call("destroy-sandbox", { principal: "agent/silent", force: true });
  },
  "a sandbox ends at one word, with all it started, and its group goes": async () => {
    const folder = await folderOf("agent/said");
    equal((await launcher.status("agent/said"))?.confinement?.limits, { level: "enforced" });
    await launcher.call("destroy-sandbox", { principal: "agent/said", force: true });
    equal(existsSync(folder), false);
  },
};

// The runtime's own deadlines, too.
const timeout = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = (ms: number) => timeout(ms * SLOWNESS);

async function ended(principal: string, script: string, resources: object) {
  await launcher.create(principal, script, { spec: { resources } });
  return await launcher.exitOf(principal);
}

async function folderOf(principal: string): Promise<string> {
  const status = await launcher.status(principal);
  return join(HIERARCHY, groupOf(status?.pid ?? 0) ?? "");
}

const fileOf = (folder: string, name: string): string => readFileSync(join(folder, name), "utf8").trim();

function equal(found: unknown, wanted: unknown): void {
  if (!Bun.deepEquals(found, wanted))
    throw new Error(`${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`);
}

function contains(text: string | undefined, part: string): void {
  if (text?.includes(part) !== true) throw new Error(`"${text}" does not hold "${part}"`);
}

const late = (): Promise<never> =>
  new Promise((_, reject) =>
    setTimeout(() => reject(new Error(`not within ${PATIENCE_MS} ms`)), PATIENCE_MS),
  );

if (tmuxPipe !== undefined) writeFileSync(tmuxPipe, `${tmuxSocket(launcher.layout)}\n`);
await launcher.start(
  [join(build, "bin/bureau-proxy")],
  { externalTerminals: tmuxPipe !== undefined },
  slowClock,
);
for (const [name, run] of Object.entries(cases)) {
  try {
    await Promise.race([run(), late()]);
    console.log(`ok ${who}: ${name}`);
  } catch (error) {
    console.log(`not ok ${who}: ${name}: ${String(error)}`);
  }
}
await launcher[Symbol.asyncDispose]();
process.exit(0);
