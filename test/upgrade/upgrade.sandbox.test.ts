/** New builds of daemon and launcher in a running instance: good ones interrupt nothing, bad ones are rolled back. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { callCbor } from "@bureau/os/cbor-client";
import { daemonWatchFile, launcherSocket, observeSocket } from "@bureau/os/layout";
import { argumentsOf, childrenOf, identify } from "@bureau/os/process-table";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { launcherResponses } from "@bureau/schema/launcher-ipc";
import type { MachineReport } from "@bureau/schema/observe-wire";
import type { TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";
import { foreignProgram, prepend, runtimeSpoilsItself, TestBuilds } from "./test-builds.ts";
import { UpgradableBureau } from "./upgradable-bureau.ts";

setDefaultTimeout(180_000);
const times = {
  proof: 6_000,
  soak: 3_000,
  launcherProof: 6_000,
  launcherSoak: 1_000,
  judge: 5_000,
  margin: 6_000,
};
const versions = new TestBuilds();
let machine: UpgradableBureau;
let bureau: TestBureau;

beforeAll(async () => {
  machine = await UpgradableBureau.open(times);
  bureau = machine.bureau;
}, 120_000);
afterAll(async () => {
  await machine[Symbol.asyncDispose]();
  versions[Symbol.dispose]();
}, 60_000);

const version = () => machine.version();
const request = (path: string) => machine.ask(path);

async function report(): Promise<MachineReport> {
  const socket = connect({ path: observeSocket(bureau.layout) });
  const chunks: Buffer[] = [];
  socket.write('{"action":"status"}\n');
  for await (const chunk of socket) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString()) as MachineReport;
}

const launcher = () =>
  callCbor(launcherSocket(bureau.layout), { action: "status" }, launcherResponses.status, {
    peer: "launcher",
  });

const agent = async (name = "greeter") => {
  const found = await eventually(async () =>
    (await report()).principals.find((one) => one.state === "running" && one.name === `agent/${name}`),
  );
  return { pid: found.pid, proxy: found.proxy_pid, started: found.started_at };
};

const COUNTER = "n=0; while :; do n=$((n+1)); echo count $n; sleep 0.05; done";

/** The numbers in its output. */
async function lines(): Promise<number[]> {
  const request = { action: "capture-output", principal: "agent/counter", lines: 50_000 };
  const { output } = await callCbor(
    launcherSocket(bureau.layout),
    request,
    launcherResponses["capture-output"],
    { peer: "launcher" },
  );
  return output
    .split("\n")
    .flatMap((line) => /^count (\d+)$/.exec(line.trim())?.[1] ?? [])
    .map(Number);
}

/** Sends requests in a loop until stopped. Returns the count, the longest wait, and the errors. */
function hammer(ask: () => Promise<unknown>) {
  const result = { count: 0, longestMs: 0, failures: [] as string[] };
  let going = true;
  const worker = async (): Promise<void> => {
    while (going) {
      const began = performance.now();
      await ask().catch((error: unknown) => result.failures.push(String(error)));
      result.count++;
      result.longestMs = Math.max(result.longestMs, performance.now() - began);
      await Bun.sleep(5);
    }
  };
  const workers = [worker(), worker(), worker()];
  return async () => {
    going = false;
    await Promise.all(workers);
    return result;
  };
}

/** The guarantee for clients while one daemon replaces another: an answer, and a correct one. */
async function counterIsReported(): Promise<void> {
  const { principals } = await report();
  const found = principals.find(({ name }) => name === "agent/counter");
  if (found?.state !== "running") throw new Error(`status says of the counter: ${found?.state}`);
}

/** The same for requests that need a permission. */
async function counterIsListed(): Promise<void> {
  const { code, stderr } = await bureau.run("agent", "logs", "counter");
  if (code !== 0) throw new Error(stderr);
}

/**
 * Descriptors present in every sample, because clients connect and disconnect. Only root may read the launcher's
 * (`makeUndumpable`).
 */
async function fewestDescriptors(pid: number): Promise<number> {
  let fewest = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 20; look++) {
    fewest = Math.min(fewest, readdirSync(`/proc/${pid}/fd`).length);
    await Bun.sleep(10);
  }
  return fewest;
}

const rounds = Number(process.env["BUREAU_UPGRADE_ROUNDS"] ?? 3);
const ROUND_MS_MAX = 30_000;

test(
  "upgrades back and forth refuse no client and restart nothing while an agent works",
  async () => {
    await bureau.json("agent", "create", "counter", "--command", COUNTER);
    const before = await agent("counter");
    const counted = await lines();
    const [daemon, launcherBefore] = [(await report()).daemon.pid, (await launcher()).pid];
    const stops = [hammer(counterIsReported), hammer(launcher), hammer(counterIsListed)];
    const pair = [versions.make(), versions.make()];
    const countable = process.getuid?.() === 0 ? [daemon, launcherBefore] : [daemon];
    const fds: number[][] = [];
    for (let round = 0; round < rounds; round++) {
      const path = pair[round % 2] ?? "";
      const now = await request(path);
      expect(now).toMatchObject({ state: "running", host_environment_path: path });
      expect(now.history[0]).toMatchObject({ outcome: "succeeded" });
      expect((await launcher()).programs_dir).toBe(path);
      fds.push(await Promise.all(countable.map(fewestDescriptors)));
    }
    const [observed, launched, logged] = await Promise.all(stops.map((stop) => stop()));
    console.log("observe.sock", observed, "launcher.sock", launched, "bureau agent logs", logged, fds);
    expect([observed?.failures, launched?.failures, logged?.failures]).toEqual([[], [], []]);
    expect(await agent("counter")).toEqual(before);
    const now = await lines();
    // Every line in order, none missing, from before and after the upgrade.
    expect(now.length).toBeGreaterThan(counted.length);
    expect(now).toEqual(now.map((_, index) => index + 1));
    expect([(await report()).daemon.pid, (await launcher()).pid]).toEqual([daemon, launcherBefore]);
    const zombies = [daemon, launcherBefore].flatMap(childrenOf).filter((pid) => identify(pid) === undefined);
    expect(zombies).toEqual([]);
    // A leaked descriptor of one build stays in the next; ten upgrades make it visible.
    for (const index of countable.keys()) {
      const counts = fds.map((pair) => pair[index] ?? 0);
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThan(12);
    }
  },
  (rounds + 2) * ROUND_MS_MAX,
);

test("an agent destroyed during a trial does not count against the new build", async () => {
  await bureau.json("agent", "create", "leaver", "--command", "exec sleep 1000");
  const upgraded = request(versions.make());
  await eventually(async () => existsSync(daemonWatchFile(bureau.layout)) || undefined);
  await bureau.json("agent", "destroy", "leaver");
  expect((await upgraded).history[0]).toMatchObject({ outcome: "succeeded" });
});

test("a proxy of an earlier launcher leaves no zombie process when it ends", async () => {
  await bureau.json("agent", "create", "leaver", "--command", "exec sleep 1000");
  const { proxy } = await agent("leaver");
  const { pid } = await launcher();
  expect(childrenOf(pid)).toContain(proxy ?? 0);
  expect((await request(versions.make())).history[0]).toMatchObject({ outcome: "succeeded" });
  await bureau.json("agent", "destroy", "leaver");
  expect((await launcher()).pid).toBe(pid);
  await eventually(async () => (childrenOf(pid).includes(proxy ?? 0) ? undefined : true));
});

test.each([
  ["exits at once", prepend("bureau-daemon", "process.exit(3);"), "ended"],
  ["exits during the soak", prepend("bureau-daemon", "setTimeout(()=>process.exit(3),2500);"), "ended"],
  ["hangs", prepend("bureau-daemon", "for(;;){}"), "in time"],
  [
    "cannot reach the homeserver",
    prepend("bureau-daemon", 'globalThis.fetch=()=>Promise.reject(new TypeError("no"));'),
    "in sync",
  ],
  [
    "believes that its machine was revoked",
    prepend(
      "bureau-daemon",
      "const asks=globalThis.fetch;globalThis.fetch=(at,o)=>asks(at,{...o,headers:{...o?.headers,authorization:'Bearer x'}});",
    ),
    "refused it",
  ],
  ["has a launcher that exits", prepend("bureau-launcher", "process.exit(4);"), "launcher"],
  ["has a launcher that hangs", prepend("bureau-launcher", "for(;;){}"), "launcher"],
])("a version that %s is rolled back, and agents keep running", async (_, spoil, reason) => {
  const before = await agent();
  const works = (await version()).host_environment_path;
  const began = performance.now();
  const now = await request(versions.make(spoil));
  console.log(`taken back after ${Math.round(performance.now() - began)} ms: ${now.reason}`);
  expect(now).toMatchObject({ state: "failed", host_environment_path: works });
  expect(now.history[0]).toMatchObject({ outcome: "rolled-back" });
  expect(now.reason).toContain(reason);
  expect(await agent()).toEqual(before);
  await eventually(async () =>
    (await launcher().catch(() => undefined))?.programs_dir === works ? true : undefined,
  );
});

test("a build that differs only in the launcher upgrades and rolls back", async () => {
  const works = (await version()).host_environment_path;
  const { pid, started_at } = (await report()).daemon;
  const launcherOnly = versions.make(undefined, ["bureau-launcher"], works);
  const runs = async (path: string) => {
    expect(await version()).toMatchObject({ state: "running", host_environment_path: path });
    expect((await launcher()).programs_dir).toBe(path);
    expect(realpathSync(bureau.layout.currentPrograms)).toBe(path);
  };
  expect((await request(launcherOnly)).history[0]).toMatchObject({ outcome: "succeeded" });
  await runs(launcherOnly);
  const bad = versions.make(prepend("bureau-launcher", "process.exit(4);"), ["bureau-launcher"], works);
  expect((await request(bad)).history[0]).toMatchObject({ outcome: "rolled-back" });
  expect((await launcher()).programs_dir).toBe(launcherOnly);
  expect((await request(works)).history[0]).toMatchObject({ outcome: "succeeded" });
  await runs(works);
  expect((await report()).daemon).toEqual({ pid, started_at });
});

/** Like builds before the runtime had arguments: in its manifest and its scripts. */
function withoutArguments(path: string): void {
  const file = join(path, "build.json");
  const { runtime_arguments: _, ...manifest } = JSON.parse(readFileSync(file, "utf8")) as object & {
    runtime_arguments: readonly string[];
  };
  writeFileSync(file, JSON.stringify(manifest));
  for (const name of readdirSync(join(path, "bin"))) {
    const script = readFileSync(join(path, "bin", name), "utf8");
    writeFileSync(join(path, "bin", name), script.replace(`${runtimeArguments.join(" ")} `, ""));
  }
}

test("executes a build from before the runtime's arguments without them, and the next one with them", async () => {
  const argumentsHere = async (): Promise<string[][]> =>
    [(await report()).daemon.pid, (await launcher()).pid].map((pid) =>
      argumentsOf(pid).filter((word) => runtimeArguments.includes(word)),
    );
  for (const [path, expected] of [
    [versions.make(withoutArguments), []],
    [versions.make(), runtimeArguments],
  ] as const) {
    const { history, host_environment_path } = await request(path);
    expect(history[0]).toMatchObject({ outcome: "succeeded" });
    // Each knows its build, at any position of its path in its arguments.
    expect(host_environment_path).toBe(path);
    expect(await argumentsHere()).toEqual([[...expected], [...expected]]);
    expect((await launcher()).programs_dir).toBe(path);
  }
});

test("refuses a build in an agent's workspace, and one that every user may change", async () => {
  const before = await report();
  const planted = join(bureau.layout.workspaceRoot, "build");
  cpSync(versions.make(), planted, { recursive: true });
  const loose = versions.make((path) => chmodSync(join(path, "lib/bureau-proxy"), 0o777));
  for (const [path, reason] of [
    [planted, "where sandboxes write"],
    [loose, "every user may change"],
  ] as const) {
    const now = await request(path);
    expect(now.history[0]).toMatchObject({ outcome: "refused" });
    expect(now.reason).toContain(reason);
  }
  rmSync(planted, { recursive: true });
  expect((await report()).daemon).toEqual(before.daemon);
});

test("a daemon whose successor went back by itself is not killed for being late", async () => {
  const { pid, started_at } = (await report()).daemon;
  const deaf = prepend("bureau-daemon", 'globalThis.fetch=()=>Promise.reject(new TypeError("no"));');
  expect((await request(versions.make(deaf))).history[0]?.outcome).toBe("rolled-back");
  const now = (await report()).daemon;
  expect(now.pid).toBe(pid);
  expect(now.started_at).toBeGreaterThan(started_at);
  await Bun.sleep(times.soak + times.margin + 1_000);
  expect((await report()).daemon).toEqual(now);
});

test.each([
  ["has no runtime", (path: string) => rmSync(join(path, "runtime/bun")), "lacks files"],
  [
    "has a runtime that is no program",
    (path: string) => {
      rmSync(join(path, "runtime/bun"));
      writeFileSync(join(path, "runtime/bun"), "\x7fELF?", { mode: 0o755 });
    },
    "runtime",
  ],
])("a version that %s is refused, and nothing is touched", async (_, spoil, reason) => {
  const before = await report();
  const now = await request(versions.make(spoil));
  expect(now).toMatchObject({ state: "failed" });
  expect(now.history[0]).toMatchObject({ outcome: "refused" });
  expect(now.reason).toContain(reason);
  expect((await report()).daemon).toEqual(before.daemon);
});

// The check of a build starts its runtime three times.
const foreign = join(versions.folder, "foreign");
writeFileSync(foreign, foreignProgram(), { mode: 0o755 });
test.each([
  ["its runtime is of another processor", `cp ${foreign} "$0.new"; mv "$0.new" "$0"`, "ENOEXEC"],
  [
    "its runtime's interpreter is gone",
    `printf '#!/no/such/thing\\n' > "$0.new"; chmod 755 "$0.new"; mv "$0.new" "$0"`,
    "ENOENT",
  ],
  ["its runtime is gone", 'rm "$0"', "ENOENT"],
])("a version of which %s by the time it is executed leaves the old one running", async (_, what, errno) => {
  const before = await report();
  const [agents, launchers] = [await agent(), await launcher()];
  const daemon = await request(versions.make(runtimeSpoilsItself(3, what)));
  expect(daemon.history[0]).toMatchObject({ outcome: "refused" });
  expect(daemon.reason).toContain(errno);
  // The daemon is unchanged: only the launcher is executed.
  const { host_environment_path: works } = await version();
  const alone = await request(versions.make(runtimeSpoilsItself(3, what), ["bureau-launcher"], works));
  expect(alone.history[0]).toMatchObject({ outcome: "rolled-back" });
  // The launcher checks by itself, and finds a file that differs from the manifest, or none.
  expect(alone.reason).toMatch(/its runtime does not match its manifest|ENOENT/u);
  expect((await report()).daemon).toEqual(before.daemon);
  const now = await launcher();
  expect([now.pid, now.programs_dir]).toEqual([launchers.pid, launchers.programs_dir]);
  expect(await agent()).toEqual(agents);
});

test("a launcher crash during a trial does not save a hanging daemon", async () => {
  const before = await agent();
  const works = (await version()).host_environment_path;
  const asked = request(versions.make(prepend("bureau-daemon", "for(;;){}")));
  await eventually(async () => existsSync(daemonWatchFile(bureau.layout)) || undefined);
  process.kill((await launcher()).pid, "SIGKILL");
  const now = await asked;
  expect(now).toMatchObject({ state: "failed", host_environment_path: works });
  expect(now.reason).toContain("in time");
  expect(await agent()).toEqual(before);
});

test("a launcher that cannot become idle continues soon, even after its clients disconnected", async () => {
  await bureau.json(
    "agent",
    "create",
    "deaf",
    "--command",
    "trap '' TERM HUP; echo up; while :; do sleep 0.1; done",
  );
  await eventually(
    async () => (await bureau.run("agent", "logs", "deaf")).stdout.includes("up") || undefined,
  );
  const { pid } = await agent("deaf");
  const gone = new AbortController();
  const ask = { action: "destroy-sandbox", principal: "agent/deaf", grace_ms: 60_000 };
  const asking = callCbor(launcherSocket(bureau.layout), ask, launcherResponses["destroy-sandbox"], {
    peer: "launcher",
    signal: gone.signal,
  }).catch(() => {});
  await launcher();
  gone.abort();
  await asking;
  const update = { action: "exec-update", programs_dir: versions.make(), request_id: "at a bad moment" };
  await callCbor(launcherSocket(bureau.layout), update, launcherResponses["exec-update"], {
    peer: "launcher",
  });
  const { exec_fault } = await eventually(async () => {
    const now = await launcher();
    return now.exec_fault === undefined ? undefined : now;
  });
  expect(exec_fault).toContain("under way");
  process.kill(pid ?? 0, "SIGKILL");
  await bureau.json("agent", "destroy", "deaf", "--no-wait");
});

test("refuses an altered build, and does nothing for the same content", async () => {
  const altered = versions.make();
  writeFileSync(join(altered, "lib/bureau-proxy/main.js"), "//\n", { flag: "a" });
  expect((await request(altered)).reason).toContain("does not match its manifest");
  const before = await report();
  const same = (await version()).host_environment_path;
  expect(await request(same)).toMatchObject({ state: "running", host_environment_path: same });
  expect((await report()).daemon).toEqual(before.daemon);
});
