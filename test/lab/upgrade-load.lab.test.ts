/**
 * Upgrades back and forth under load on a machine with systemd: no client fails, no sandbox is interrupted, nothing leaks.
 * Half of them run while agents are created and destroyed. `BUREAU_UPGRADE_ROUNDS` says how many.
 */
import { afterAll, expect, test } from "bun:test";
import { resolve } from "node:path";
import { SPARE_PROXIES } from "@bureau/launcher/spare-proxies";
import { tmuxSession } from "@bureau/os/layout";
import { parsePrincipalName } from "@bureau/schema/refs";
import { TestBuilds } from "../upgrade/test-builds.ts";
import { connecting, examine, FLEET, having, installed, LabFleet } from "./fleet.ts";
import type { Census } from "./inside/census.ts";
import type { LoadResult, LoadTarget } from "./inside/load-clients.ts";
import { buildsInside, runtimeInside } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const rounds = Number(process.env["BUREAU_UPGRADE_ROUNDS"] ?? 30);
/** A round takes about three seconds, more on a busy machine or with agents being created. */
const ROUND_MS_MAX = 30_000;
/** Between the first and the last third of a phase: one descriptor of each of the ten upgrades between them would be more. */
const FDS_GROWTH_MAX = 8;
const PRIVATE_KB_GROWTH_MAX = 8_000;
/** Warm-up rounds: descriptors opened once are open after them. Their values are compared with those at the end. */
const WARM_UP = 4;
/** Short times suffice here: the defaults wait for faults that appear only with time. */
const times = { proof: 15_000, soak: 400, launcherProof: 15_000, launcherSoak: 300, margin: 5_000 };

const environments = new TestBuilds();
afterAll(() => environments[Symbol.dispose]());

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  const binds = {
    [environments.make()]: `${buildsInside}/a`,
    [environments.make()]: `${buildsInside}/b`,
    [resolve(import.meta.dirname, "inside")]: "/opt/inside",
  };
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), opened.boot("m1", { binds })]);
  await m1().writeFile(
    "/run/systemd/system/bureau-daemon.service.d/times.conf",
    `[Service]\nEnvironment='BUREAU_UPGRADE_TIMES=${JSON.stringify(times)}'\n`,
  );
  await fleet.join(m1());
  await fleet.createAgent("m1", "counter", "n=0; while :; do n=$((n+1)); echo count $n; sleep 0.05; done");
  await createClock();
  await fleet.agentRuns(m1(), "counter");
  await m1().eventually(`${connecting(clockSocket)} | grep tick`);
});
const m1 = () => lab().machine("m1");
const onM1 = `--machine ${FLEET}/machine/m1`;

const clockSocket = "/run/bureau/fleet/prod/service/clock.sock";

/** A service that listens on a socket of its own. */
async function createClock(): Promise<void> {
  const serve = `process.umask(0o007);
require("node:net").createServer((s) => s.end("tick")).listen("/run/bureau/listen/service.sock");`;
  await fleet.op.ok("cat > clock.js", { input: serve });
  await fleet.do(
    `agent create service/clock ${onM1} --template bureau/template:service --command "exec /run/bureau/programs/runtime/bun -e '$(cat clock.js)'"`,
  );
}

const hex = (text: string): string => Buffer.from(text, "latin1").toString("hex");
const targetsFor = (token: string): readonly LoadTarget[] => [
  {
    name: "launcher.sock",
    path: "/run/bureau/launcher.sock",
    request: hex("\xa1faction\x66status"),
    expect: "programs_dir",
  },
  {
    name: "observe.sock",
    path: "/run/bureau/observe.sock",
    request: hex('{"action":"status"}\n'),
    expect: "agent/counter",
  },
  {
    name: "observe.sock logs",
    path: "/run/bureau/observe.sock",
    request: hex(`${JSON.stringify({ action: "logs", principal: "agent/counter", lines: 5, token })}\n`),
    expect: "count ",
  },
  { name: "a service's socket", path: clockSocket, request: "", expect: "tick" },
  {
    name: "a proxy's socket",
    path: "/run/bureau/fleet/prod/agent/counter.proxy.sock",
    request: hex("GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
    expect: '"ok"',
  },
];

/** Starts clients at every socket. The returned function stops them and returns their results. */
async function startClients(): Promise<() => Promise<Record<string, LoadResult>>> {
  const stopFile = "/root/asked-enough";
  await m1().ok(`rm -f ${stopFile}`);
  const { access_token } = await fleet.op.json<{ access_token: string }>("cat .config/bureau/session.json");
  await m1().writeFile("/root/targets.json", JSON.stringify(targetsFor(access_token)), { mode: 0o600 });
  const asking = m1().ok(`${runtimeInside} /opt/inside/load-clients.ts ${stopFile} /root/targets.json`, {
    timeoutMs: (rounds + 1) * ROUND_MS_MAX,
  });
  // Their caller may have ended by then.
  asking.catch(() => {});
  return async () => {
    await m1().ok(`touch ${stopFile}`);
    return JSON.parse(await asking) as Record<string, LoadResult>;
  };
}

let turn = 0;

/** Upgrades to the build that does not run. Returns the milliseconds that the machine reports. */
async function upgrade(): Promise<number> {
  const to = turn++ % 2 === 0 ? `${buildsInside}/a` : `${buildsInside}/b`;
  const flags = `--fleet ${FLEET} --host-env ${to} --on-machine --wait --json`;
  const { stdout, stderr } = await fleet.command(`machine upgrade m1 ${flags}`, { timeoutMs: ROUND_MS_MAX });
  try {
    const said = JSON.parse(stdout) as { outcome: string; duration_ms: number; reason?: string };
    expect(said).toMatchObject({ outcome: "succeeded" });
    return said.duration_ms;
  } catch (error) {
    throw new Error(`upgrade ${turn}: ${error}\n${stdout}\n${stderr}\n${await m1().journal(undefined, 150)}`);
  }
}

const census = (): Promise<Census> => m1().json<Census>(`${runtimeInside} /opt/inside/census.ts`);

/** Every sandbox that must survive: its program, its proxy, and its start time. */
async function steady(): Promise<Record<string, unknown>> {
  const { principals } = await m1().json<{ principals: Record<string, unknown>[] }>(
    `${installed} status --json`,
  );
  const kept = principals.filter(({ name }) => name === "agent/counter" || name === "service/clock");
  return Object.fromEntries(
    kept.map(({ name, state, pid, proxy_pid, started_at }) => [name, { state, pid, proxy_pid, started_at }]),
  );
}

async function counted(): Promise<number[]> {
  const session = tmuxSession(parsePrincipalName("agent/counter"));
  const screen = await m1().ok(
    `tmux -N -S /run/bureau/tmux.sock capture-pane -p -J -S -50000 -t '=${session}:'`,
    { user: "bureau" },
  );
  return screen
    .split("\n")
    .flatMap((line) => /^count (\d+)$/.exec(line.trim())?.[1] ?? [])
    .map(Number);
}

/** Ends them; returns how many were created and destroyed. */
type Churn = () => Promise<number>;

/** Creates and destroys agents until stopped. Each must start once and end. */
function churn(first: number, holds: () => Promise<void>): Churn {
  let going = true;
  let done = 0;
  const work = async (): Promise<void> => {
    for (; going; done++) {
      const number = first + done;
      // Its command identifies it among all processes.
      const [name, program] = [`churn-${number}`, `sleep ${70_000 + number}`];
      await fleet.createAgent("m1", name, `exec ${program}`);
      const pid = await m1().eventually(`pgrep -xf '${program}'`);
      await holds();
      expect([name, await m1().ok(`pgrep -xf '${program}'`)]).toEqual([name, pid]);
      expect(pid.trim().split("\n")).toHaveLength(1);
      await fleet.do(`agent destroy ${name} ${onM1}`);
      await m1().eventually(
        `! pgrep -xf '${program}' && ! test -e /run/bureau/fleet/prod/sandbox/agent+${name}`,
      );
    }
  };
  const working = work();
  working.catch(() => {});
  return async () => {
    going = false;
    await working;
    return done;
  };
}

/** Upgrades back and forth under client load. Throws on a fault of an agent that starts or ends meanwhile. */
async function phase(name: string, count: number, startChurns: (upgraded: () => Promise<void>) => Churn[]) {
  const stopClients = await startClients();
  const durations: number[] = [];
  const seen: Census[] = [];
  let upgraded = Promise.withResolvers<void>();
  const churns = startChurns(() => upgraded.promise);
  for (let round = 0; round < count; round++) {
    durations.push(await upgrade());
    upgraded.resolve();
    upgraded = Promise.withResolvers();
    seen.push(await census());
  }
  const stopped = churns.map((stop) => stop());
  upgraded.resolve();
  const agents = await Promise.all(stopped);
  const clients = await stopClients();
  const came = agents.length === 0 ? "" : `; agents that came and went: ${agents.join(" + ")}`;
  console.log(`${name}: ${count} upgrades, ${durationsOf(durations)}${came}\n${tableOf(clients)}`);
  await tellOfFailures(clients);
  for (const [client, { asked, failures }] of Object.entries(clients)) {
    expect([client, failures]).toEqual([client, []]);
    expect(asked).toBeGreaterThan(count);
  }
  for (const agent of agents) expect(agent).toBeGreaterThan(0);
  nothingGrew(seen);
}

/** Descriptors and memory after each upgrade of one phase: a leak accumulates. */
function nothingGrew(seen: readonly Census[]): void {
  const few = Math.max(1, Math.floor(seen.length / 3));
  for (const name of Object.keys(seen[0]?.programs ?? {}))
    for (const [value, unit, growth] of [
      ["fds", "descriptors", FDS_GROWTH_MAX],
      ["privateKb", "kB of its own", PRIVATE_KB_GROWTH_MAX],
    ] as const) {
      const each = seen.map(({ programs }) => programs[name]?.[value] ?? 0);
      const [first, last] = [median(each.slice(0, few)), median(each.slice(-few))];
      console.log(`${name}: ${first} → ${last} ${unit} (at most ${Math.max(...each)})`);
      // tmux keeps the agents' output, up to a limit.
      if (name !== "bureau-terminals" || value === "fds")
        expect(last - first, name).toBeLessThanOrEqual(growth);
    }
}

test(
  "upgrades under load, half of them while agents are created and destroyed, interrupt no client",
  async () => {
    for (let round = 0; round < WARM_UP; round++) await upgrade();
    const [before, started] = [
      await steady(),
      await eventuallyQuiet(underWay, withProxies(2 + SPARE_PROXIES)),
    ];
    const numbersBefore = await counted();
    await phase("steady agents", Math.ceil(rounds / 2), () => []);
    await phase("agents that come and go", Math.floor(rounds / 2), (upgraded) => [
      churn(0, async () => {}),
      churn(5_000, upgraded),
    ]);
    expect(await steady()).toEqual(before);
    const numbers = await counted();
    expect(numbers.length).toBeGreaterThan(numbersBefore.length);
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    await nothingLeaked(started);
    expect(having(await examine(m1()), "fail")).toEqual([]);
  },
  (rounds + WARM_UP + 4) * ROUND_MS_MAX,
);

test("a program started before an upgrade that ends after it leaves no process, not even a zombie", async () => {
  await upgrade();
  for (const agent of ["counter", "service/clock"]) await fleet.do(`agent destroy ${agent} ${onM1}`);
  await m1().eventually(`[ -z "$(ls /run/bureau/fleet/prod/sandbox)" ]`);
  await eventuallyQuiet(underWay, withProxies(SPARE_PROXIES));
});

/** The machine's log around each failure of a client. */
async function tellOfFailures(clients: Record<string, LoadResult>): Promise<void> {
  for (const [name, { failures }] of Object.entries(clients))
    for (const failure of failures) {
      const at = Date.parse(failure.split(" ")[0] ?? "") / 1_000;
      const between = `--since @${(at - 1).toFixed(3)} --until @${(at + 0.5).toFixed(3)}`;
      const said = await m1().ok(`journalctl --no-pager -o short-precise ${between}`);
      console.log(`${name}: ${failure}\n${said}`);
    }
}

/** Polls, because a process may take a moment to end. */
async function eventuallyQuiet<T>(look: (now: Census) => T, wanted: T): Promise<Census> {
  let now = await census();
  for (let tries = 0; tries < 20 && !Bun.deepEquals(look(now), wanted); tries++) now = await census();
  expect(look(now)).toEqual(wanted);
  return now;
}

async function nothingLeaked(before: Census): Promise<void> {
  const left = ({ zombies, proxies, proxyUnits, files }: Census) => [
    ...[zombies, proxies, proxyUnits, files.filter(isPassing)],
  ];
  const still = await eventuallyQuiet(left, left(before));
  for (const [name, { pid, stored, children }] of Object.entries(still.programs)) {
    const then = before.programs[name];
    expect({ pid, stored, children }).toEqual({
      pid: then?.pid ?? 0,
      stored: then?.stored ?? 0,
      children: then?.children ?? [],
    });
  }
}

/** Processes that end or begin: the dead ones, proxies (the spares, too), their units; and files half written. */
const underWay = ({ zombies, proxies, proxyUnits, files }: Census) => [
  ...[zombies, proxies, proxyUnits, files.filter((path) => /\.tmp$|\/unsent/.test(path))],
];

/** What {@link underWay} shows of a machine at rest. */
const withProxies = (count: number) => [[], count, count, []];

/** Excludes the kept last screen of an ended agent, and the history of a running one. */
const isPassing = (path: string): boolean =>
  !path.includes("/last-output/") && !/\/spec-history\/(agent\+counter|service\+clock)\.json$/.test(path);

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

const durationsOf = (ms: readonly number[]): string =>
  `each ${(median(ms) / 1_000).toFixed(1)} s, at most ${(Math.max(...ms) / 1_000).toFixed(1)} s`;

const tableOf = (clients: Record<string, LoadResult>): string =>
  Object.entries(clients)
    .map(
      ([name, { asked, failures, longestMs, late }]) =>
        `${name.padEnd(20)} asked ${asked}, failed ${failures.length}, longest wait ${longestMs} ms, above 100 ms ${late}\n`,
    )
    .join("");
