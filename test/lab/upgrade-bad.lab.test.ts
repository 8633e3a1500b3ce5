/**
 * Bad builds on machines with systemd and with the default times: each is rolled back automatically, in
 * time, with its reason, and no agent is interrupted. Independent cases run concurrently, on machines of one fleet.
 *
 * `BUREAU_BAD_ROUNDS` says how often each is tried.
 */
import { afterAll, expect, test } from "bun:test";
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { MachineVersion } from "@bureau/schema/events";
import {
  foreignProgram,
  orphanProgram,
  prepend,
  replaceIn,
  runtimeIs,
  TestBuilds,
} from "../upgrade/test-builds.ts";
import { questions, startAsking } from "./asking.ts";
import { FLEET, installed, LabFleet } from "./fleet.ts";
import { buildsInside, type Machine } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const ROUNDS = Number(process.env["BUREAU_BAD_ROUNDS"] ?? 2);
const STATE = "/var/lib/bureau/upgrade-state.json";
const LINK = "/var/bureau/programs/current";
/** Each costs some of the host's inotify instances, of which there are 128 by default, for all labs together. */
const POOL = ["m1", "m2", "m3", "m4", "m5", "m6"];
/** Milliseconds for a whole attempt, including its wait for a machine. */
const TEST_MS_MAX = 600_000;

const environments = new TestBuilds();
afterAll(() => environments[Symbol.dispose]());
/** Where a machine sees that version. */
const inside = (path: string): string => join(buildsInside, basename(path));
const make = (...spoiling: Parameters<TestBuilds["make"]>): string => inside(environments.make(...spoiling));
const altered = (change: (path: string) => void): string => {
  const path = environments.make();
  change(path);
  return inside(path);
};

let fleet: LabFleet;
const free: Machine[] = [];
const waiting: ((machine: Machine) => void)[] = [];
const good = [make(), make()];

const lab = useLab(async (opened) => {
  const binds = { [environments.folder]: buildsInside };
  [fleet] = await Promise.all([
    LabFleet.open(opened, "embedded"),
    ...[...POOL, "small"].map((name) => opened.boot(name, { binds })),
  ]);
  // The state of this machine lies on a disk that the test fills.
  await opened
    .machine("small")
    .ok("mkdir -p /var/lib/bureau && mount -t tmpfs -o size=4M tmpfs /var/lib/bureau");
  await Promise.all(
    [...POOL, "small"].map(async (name) => {
      const machine = opened.machine(name);
      await fleet.join(machine);
      await fleet.createAgent(name, "worker", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done");
      await fleet.agentRuns(machine, "worker");
      if (POOL.includes(name)) give(machine);
    }),
  );
});

function give(machine: Machine): void {
  const next = waiting.shift();
  if (next === undefined) free.push(machine);
  else next(machine);
}

/** Does it on a machine that has nothing else to do. */
async function onFreeMachine<T>(work: (machine: Machine) => Promise<T>): Promise<T> {
  const machine = free.shift() ?? (await new Promise<Machine>((resolve) => waiting.push(resolve)));
  try {
    return await work(machine);
  } finally {
    give(machine);
  }
}

type Said = {
  readonly outcome: string;
  readonly request_id: string;
  readonly duration_ms: number;
  readonly reason?: string;
};

/** Asks for a version as a person does; `--wait` unless told otherwise. */
async function upgrade(machine: Machine, path: string, flags = "--wait --timeout 4m"): Promise<Said> {
  const command = `machine upgrade ${machine.name} --fleet ${FLEET} --host-env ${path} --on-machine --json ${flags}`;
  const { stdout, stderr } = await fleet.command(command, { timeoutMs: 260_000 });
  try {
    return JSON.parse(stdout) as Said;
  } catch {
    throw new Error(`machine upgrade ${path}: ${stdout}\n${stderr}\n${await machine.journal()}`);
  }
}

/** The machine's report of its builds in its room. */
async function versionOf(machine: Machine): Promise<MachineVersion> {
  const { version } = await fleet.json<{ version: MachineVersion }>(
    `machine show ${machine.name} --fleet ${FLEET}`,
  );
  return version;
}

const linkOf = async (machine: Machine): Promise<string> => (await machine.ok(`readlink -f ${LINK}`)).trim();
const pidOf = async (machine: Machine, unit: string): Promise<string> =>
  (await machine.ok(`systemctl show -P MainPID ${unit}`)).trim();
/** How often a request was begun. */
const begun = async (machine: Machine, request: string): Promise<number> =>
  Number(
    (
      await machine.ok(
        `journalctl -o cat -u bureau-daemon --no-pager | grep upgrade.requested | grep -c ${request} || true`,
      )
    ).trim(),
  );
const untilOnline = (machine: Machine): Promise<string> =>
  machine.eventually(`${installed} status | grep -q online`, { timeoutMs: 100_000 });
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

type Bad = {
  readonly what: string;
  readonly path: string;
  readonly outcome: "rolled-back" | "refused";
  readonly reason: RegExp;
  /** From the request to the report. */
  readonly secondsMax: number;
};

const [PROMPT, HUNG] = [30, 60];
/** 10 to 20 s of it pass before the fault; the rest is for a busy machine. */
const LATE = 45;
const rolledBack = (what: string, path: string, reason: RegExp, secondsMax = PROMPT): Bad => ({
  what,
  path,
  outcome: "rolled-back",
  reason,
  secondsMax,
});
const refused = (what: string, path: string, reason: RegExp): Bad => ({
  what,
  path,
  outcome: "refused",
  reason,
  secondsMax: PROMPT,
});
const exits = "process.exit(3);";
const later = (ms: number, code: string): string => `setTimeout(()=>{${code}},${ms});`;
const hangs = "for(;;);";

/** `BUREAU_BAD_ONLY` names some of them. */
const only = new RegExp(process.env["BUREAU_BAD_ONLY"] ?? "");
const bad: readonly Bad[] = [
  rolledBack("a daemon that exits at once", make(prepend("bureau-daemon", exits)), /daemon ended before/),
  rolledBack(
    "a daemon that exits after ten seconds",
    make(prepend("bureau-daemon", later(10_000, exits))),
    /daemon ended before/,
    LATE,
  ),
  rolledBack("a daemon that hangs at once", make(prepend("bureau-daemon", hangs)), /daemon/, HUNG),
  rolledBack(
    "a daemon that hangs after eight seconds",
    make(prepend("bureau-daemon", later(8_000, hangs))),
    /daemon/,
    HUNG,
  ),
  rolledBack(
    "a daemon that cannot reach the homeserver",
    make(prepend("bureau-daemon", 'globalThis.fetch=()=>Promise.reject(new TypeError("no"));')),
    /not in sync/,
    LATE,
  ),
  rolledBack(
    "a daemon that sees no sandboxes",
    make((path) => {
      replaceIn("bureau-daemon", "sandbox of sandboxes??[]", "sandbox of[]")(path);
      replaceIn("bureau-daemon", "list?.sandboxes??", "list?.nothing??")(path);
    }),
    /no longer knows: agent\/worker/,
    LATE,
  ),
  rolledBack("a launcher that exits at once", make(prepend("bureau-launcher", exits)), /launcher: it ended/),
  rolledBack(
    "a launcher that exits after ten seconds",
    make(prepend("bureau-launcher", later(10_000, exits))),
    /launcher/,
    LATE,
  ),
  rolledBack("a launcher that hangs at once", make(prepend("bureau-launcher", hangs)), /launcher/, HUNG),
  rolledBack(
    "a launcher that hangs after four seconds",
    make(prepend("bureau-launcher", later(4_000, hangs))),
    /launcher/,
    HUNG,
  ),
  rolledBack(
    "a launcher that forgets its sandboxes",
    make((path) => {
      replaceIn("bureau-launcher", "leftovers=adoptSandboxes(host)", "leftovers={ended:[]}")(path);
      replaceIn("bureau-launcher", "await clearLeftovers(host,leftovers),", "")(path);
    }),
    /no longer knows: agent\/worker/,
  ),
  rolledBack(
    "a launcher alone that exits at once",
    make(prepend("bureau-launcher", exits), ["bureau-launcher"]),
    /launcher: it ended/,
  ),
  refused("a runtime for another processor", make(runtimeIs(foreignProgram())), /runtime does not run/),
  refused("a runtime without its loader", make(runtimeIs(orphanProgram())), /runtime does not run/),
  refused("a runtime without its interpreter", make(runtimeIs("#!/no/such/thing\n")), /runtime does not run/),
  refused(
    "a program that was altered",
    altered((path) => writeFileSync(join(path, "lib/bureau-daemon/main.js"), "//\n", { flag: "a" })),
    /does not match its manifest/,
  ),
  refused(
    "a program that was cut short",
    altered((path) => truncateSync(join(path, "lib/bureau-launcher/main.js"), 4_096)),
    /does not match its manifest/,
  ),
  refused(
    "a manifest that was cut short",
    altered((path) => truncateSync(join(path, "build.json"), 40)),
    /cannot be used/,
  ),
  refused(
    "a program that is not there",
    altered((path) => rmSync(join(path, "lib/bureau-proxy"), { recursive: true })),
    /lacks files/,
  ),
  refused("a path that is not there", join(buildsInside, "none"), /not on this machine/),
  refused(
    "an unknown store path",
    "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bureau-host-env",
    /Cannot fetch/,
  ),
];

/** One request for a bad version, from asking to the last thing that must hold. */
async function attempt(machine: Machine, { path, outcome, reason, secondsMax }: Bad): Promise<string> {
  const agent = await fleet.agentRuns(machine, "worker");
  const link = await linkOf(machine);
  const before = await versionOf(machine);
  const asking = await Promise.all(
    [questions.daemon, questions.launcher].map((question) =>
      startAsking(machine, question, { pauseMs: 100 }),
    ),
  );
  const began = performance.now();
  const said = await upgrade(machine, path);
  const took = performance.now() - began;
  const now = await versionOf(machine);
  // The previous launcher answers too.
  await machine.eventually(`${installed} status | grep -q worker.*running`);
  const back = performance.now() - began;
  const answers = await Promise.all(asking.map((stop) => stop()));
  const where = `${machine.name}: ${JSON.stringify(said)} ${JSON.stringify(now)}`;
  expect(said.outcome, where).toBe(outcome);
  expect(said.reason ?? "", where).toMatch(reason);
  expect(now, where).toMatchObject({ state: "failed", reason: said.reason, request_id: said.request_id });
  expect(now.history[0], where).toMatchObject({ request_id: said.request_id, outcome });
  // A second request tries the same build again; the earlier request is not repeated.
  expect(now.history.slice(1, 3)).toEqual(before.history.slice(0, 2));
  expect(now.programs).toEqual(before.programs);
  expect(await linkOf(machine)).toBe(link);
  expect(await fleet.agentRuns(machine, "worker")).toBe(agent);
  if (answers.some(({ refused: why }) => why.length > 0))
    console.error(await machine.journal("bureau-*", 200));
  expect(answers.map(({ refused: why }) => why)).toEqual([[], []]);
  expect(took / 1_000, where).toBeLessThan(secondsMax);
  expect(back / 1_000, where).toBeLessThan(secondsMax);
  const longest = Math.max(...answers.map(({ longestMs }) => longestMs));
  return `${outcome} after ${seconds(took)} (longest answer ${seconds(longest)}): ${said.reason}`;
}

/** A restarted daemon does not try it again. */
async function isLeftAlone(machine: Machine): Promise<void> {
  const { history } = await versionOf(machine);
  await machine.ok("systemctl restart bureau-daemon");
  await untilOnline(machine);
  await Bun.sleep(1_000);
  const now = await versionOf(machine);
  const outcomes = (entries: typeof history) =>
    entries.map(({ request_id, outcome }) => [request_id, outcome]);
  expect(outcomes(now.history)).toEqual(outcomes(history));
  expect(now.state).not.toBe("upgrading");
  expect(await begun(machine, history[0]?.request_id ?? "none")).toBe(1);
}

test.concurrent.each(bad.filter(({ what }) => only.test(what)))(
  "$what: taken back by itself and reported in time, and tried again only when asked",
  async (one) => {
    await Promise.all(
      Array.from({ length: ROUNDS }, async (_, round) => {
        await onFreeMachine(async (machine) => {
          console.log(`${one.what}: ${await attempt(machine, one)}`);
          if (round === 0) await isLeftAlone(machine);
        });
      }),
    );
  },
  TEST_MS_MAX,
);

/** A shell condition: the current request has reached that step. */
const isAt = (step: string): string => `grep -q '"step": *"${step}"' ${STATE}`;

/** The previous build has written everything before its replacement. */
const isTried = "[ -e /var/lib/bureau/daemon-watchdog.cbor ]";

/** Every free page of the disk. */
const fill = "dd if=/dev/zero of=/var/lib/bureau/full bs=4k 2>/dev/null; true";
/** From a step on, also pages that other processes free. */
const until = (condition: string): string =>
  `while ! { ${condition}; }; do sleep 0.02; done
   for i in $(seq 200); do dd if=/dev/zero of=/var/lib/bureau/full bs=4k oflag=append conv=notrunc 2>/dev/null; sleep 0.1; done`;

test.concurrent.each([
  { when: "before it is asked for", cause: fill, outcome: "refused" },
  {
    when: "while the new daemon proves itself",
    cause: until(`${isAt("daemon")} && ${isTried}`),
    outcome: "rolled-back",
  },
  { when: "while the new launcher proves itself", cause: until(isAt("launcher")), outcome: "rolled-back" },
] as const)(
  "a disk that is full $when: the previous build keeps running and reports it",
  async ({ when, cause, outcome }) => {
    await turn(async () => {
      const small = lab().machine("small");
      const [agent, daemon, link] = [
        await fleet.agentRuns(small, "worker"),
        await pidOf(small, "bureau-daemon"),
        await linkOf(small),
      ];
      const filled = small.ok(cause, { timeoutMs: 120_000 });
      if (cause === fill) await filled;
      const began = performance.now();
      const said = await upgrade(small, good[0] ?? "");
      const took = performance.now() - began;
      await filled;
      console.log(`full ${when}: ${said.outcome} after ${seconds(took)}: ${said.reason}`);
      expect(said.outcome).toBe(outcome);
      if (!/ENOSPC/.test(said.reason ?? "")) console.error(await small.journal("bureau-daemon", 60));
      expect(said.reason).toMatch(/ENOSPC/);
      expect(took / 1_000).toBeLessThan(LATE);
      expect(await fleet.agentRuns(small, "worker")).toBe(agent);
      expect(await pidOf(small, "bureau-daemon")).toBe(daemon);
      expect(await linkOf(small)).toBe(link);
      // It is not retried, neither while the disk is full nor later.
      await isLeftAlone(small);
      await small.ok("rm /var/lib/bureau/full");
      await isLeftAlone(small);
    }).finally(() => lab().machine("small").ok("rm -f /var/lib/bureau/full"));
  },
  TEST_MS_MAX,
);

/** Cases on the machine with the small disk run one after another. */
let last: Promise<void> = Promise.resolve();
function turn(work: () => Promise<void>): Promise<void> {
  const mine = last.catch(() => {}).then(work);
  last = mine;
  return mine;
}

/** A working build other than the current one. */
async function otherGood(machine: Machine): Promise<string> {
  const link = await linkOf(machine);
  return good.find((path) => path !== link) ?? "";
}

/** The outcome of a request. */
async function outcomeOf(machine: Machine, request: string): Promise<MachineVersion["history"][number]> {
  for (const end = performance.now() + OUTCOME_MS_MAX; performance.now() < end; ) {
    const found = (await versionOf(machine)).history.find(({ request_id }) => request_id === request);
    if (found !== undefined) return found;
    await Bun.sleep(500);
  }
  throw new Error(`nothing became of ${request}:\n${await machine.journal("bureau-*", 100)}`);
}
const OUTCOME_MS_MAX = 150_000;

const exitsLater = make(prepend("bureau-daemon", later(6_000, exits)));
const launcherExitsLater = make(prepend("bureau-launcher", later(6_000, exits)));

/**
 * Seconds, first from the request, then each from when the machine is up again and takes the request up again. A good
 * version is confirmed after about 17 s.
 */
const cuts: readonly { readonly of: string; readonly bad?: string; readonly at: readonly number[] }[] = [
  { of: "a good version", at: [0.1, 0.4] },
  { of: "a good version", at: [0.7, 1] },
  { of: "a good version", at: [1.5, 2.5] },
  { of: "a good version", at: [5, 16] },
  { of: "a good version", at: [16.5, 16.8] },
  { of: "a good version", at: [17, 17.3] },
  { of: "a good version", at: [1, 2, 3] },
  { of: "a daemon that exits after six seconds", bad: exitsLater, at: [0.3, 1.2] },
  { of: "a daemon that exits after six seconds", bad: exitsLater, at: [4, 6.6] },
  { of: "a daemon that exits after six seconds", bad: exitsLater, at: [6.9, 7.2] },
  { of: "a launcher that exits after six seconds", bad: launcherExitsLater, at: [1.6, 3] },
  { of: "a launcher that exits after six seconds", bad: launcherExitsLater, at: [7.2, 7.6] },
];
/** A request is given up after this many interruptions. */
const CUT_OFF_MAX = 3;

test.concurrent.each([...cuts])(
  "power cut of $of at $at s: boots with a version that is known to work, and tells the truth",
  async ({ of, bad: path, at }) => {
    await onFreeMachine(async (machine) => {
      const before = await linkOf(machine);
      const target = path ?? (await otherGood(machine));
      const { request_id } = await upgrade(machine, target, "");
      for (const after of at) {
        // Only a started request can be interrupted.
        if (at.length >= CUT_OFF_MAX)
          await machine.eventually(`grep -q ${request_id} ${STATE} && grep -q '"step"' ${STATE}`);
        await Bun.sleep(after * 1_000);
        const began = performance.now();
        await machine.powerCut();
        expect(path === undefined ? [before, target] : [before]).toContain(await linkOf(machine));
        await fleet.agentRuns(machine, "worker");
        console.log(
          `power cut ${after} s into ${of}: agent back after ${seconds(performance.now() - began)}`,
        );
      }
      const { outcome, reason } = await outcomeOf(machine, request_id);
      const link = await linkOf(machine);
      console.log(`power cuts at ${at.join(" s, ")} s into ${of}: ${outcome} ${reason ?? ""}`);
      expect(link).toBe(outcome === "succeeded" ? target : before);
      if (at.length >= CUT_OFF_MAX) expect([outcome, reason]).toEqual(["refused", "it was cut off 3 times"]);
      else expect(outcome).toBe(path === undefined ? "succeeded" : "rolled-back");
      await untilOnline(machine);
      await fleet.agentRuns(machine, "worker");
    });
  },
  TEST_MS_MAX,
);

const OUTAGE_MS = 30_000;

test(
  "a homeserver outage does not count against a build; a build that cannot reach the homeserver fails",
  async () => {
    const machines = POOL.slice(0, 4).map((name) => lab().machine(name));
    const agents = await Promise.all(machines.map((machine) => fleet.agentRuns(machine, "worker")));
    const deaf = bad.find(({ what }) => what.includes("cannot reach"))?.path ?? "";
    const targets = await Promise.all(
      machines.map((machine, index) => (index === 3 ? deaf : otherGood(machine))),
    );
    const began = performance.now();
    const asked = await Promise.all(
      machines.map((machine, index) => upgrade(machine, targets[index] ?? "", "")),
    );
    await Promise.all(
      machines.map((machine) => machine.ok(`while ! ${isAt("daemon")}; do sleep 0.02; done`)),
    );
    await fleet.hs.stop();
    // Long enough for every build to fail for not being in sync.
    await Bun.sleep(OUTAGE_MS);
    for (const [index, machine] of machines.entries()) {
      const { history } = JSON.parse(await machine.readFile(STATE)) as Pick<MachineVersion, "history">;
      expect(history.map(({ request_id }) => request_id)).not.toContain(asked[index]?.request_id ?? "");
      expect(await fleet.agentRuns(machine, "worker")).toBe(agents[index] ?? 0);
    }
    await fleet.hs.start();
    const outcomes = await Promise.all(
      machines.map((machine, index) => outcomeOf(machine, asked[index]?.request_id ?? "")),
    );
    console.log(
      `homeserver away for ${seconds(OUTAGE_MS)}: ${outcomes.map(({ outcome }) => outcome).join(", ")} ${seconds(performance.now() - began)} after they were asked`,
    );
    expect(outcomes.map(({ outcome }) => outcome)).toEqual([
      "succeeded",
      "succeeded",
      "succeeded",
      "rolled-back",
    ]);
    expect(outcomes[3]?.reason).toMatch(/not in sync/);
    expect(await Promise.all(machines.map((machine) => fleet.agentRuns(machine, "worker")))).toEqual(agents);
  },
  TEST_MS_MAX,
);
