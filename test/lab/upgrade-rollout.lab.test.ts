/** Rollouts over machines with systemd: preview, canary, halt, rollback, resume by another operator. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Rollout } from "@bureau/schema/rollout";
import { prepend, TestBuilds } from "../upgrade/test-builds.ts";
import { bureau, FLEET, LabFleet } from "./fleet.ts";
import type { Lab } from "./lab.ts";
import type { Machine } from "./machine.ts";
import { useLab } from "./use-lab.ts";

setDefaultTimeout(120_000);
/** Shortens half a minute per machine to a few seconds. */
const TIMES = { proof: 10_000, soak: 1_000, launcherProof: 10_000, launcherSoak: 1_000, judge: 5_000 };
const NAMES = ["m1", "m2", "m3", "m4", "m5"] as const;
/** Off from the beginning, so that it has no young heartbeat when its turn comes. The others are the pool. */
const OFFLINE = "m5";
const POOL = NAMES.filter((name) => name !== OFFLINE);
/** A heartbeat counts for 3½ minutes. */
const HEARTBEAT_MS = 212_000;
/** As `nix copy` leaves it: the same path on every machine, and on the operator's. */
const store = (name: string): string => `/nix/store/${name.padEnd(32, "0")}-bureau-host-env`;

const environments = new TestBuilds();
afterAll(() => environments[Symbol.dispose]());
/** A daemon that ends on those machines. */
const endsOn = (...names: string[]): string =>
  environments.make(
    prepend(
      "bureau-daemon",
      `if(${JSON.stringify(names)}.some((name)=>process.argv.some((arg)=>arg.endsWith("/machine/"+name))))process.exit(3);`,
    ),
  );

const NAMED_MS = 7_000;

let fleet: LabFleet;
let offlineSince = 0;
const lab = useLab(async (opened) => {
  const binds = {
    [environments.make()]: store("one"),
    [environments.make()]: store("two"),
    [endsOn(...NAMES)]: store("bad"),
    [endsOn("m3")]: store("bad3"),
  };
  [fleet] = await Promise.all([
    LabFleet.open(opened, "embedded", { binds }),
    ...NAMES.map((name) => bootQuick(opened, name, binds)),
  ]);
  await Promise.all(NAMES.map((name) => fleet.join(opened.machine(name))));
  await Promise.all([
    fleet.createAgent("m2", "worker", "sleep 100000"),
    ...POOL.map((name) => label(name, { pool: "yes", role: name === "m1" ? "gpu" : "cpu" })),
  ]);
  await fleet.agentRuns(opened.machine("m2"), "worker");
  await opened.machine(OFFLINE).shutdown();
  offlineSince = performance.now();
  // A preview reads heartbeats; one follows within 5 s of a change.
  await Bun.sleep(NAMED_MS);
});

async function bootQuick(opened: Lab, name: string, binds: Readonly<Record<string, string>>): Promise<void> {
  const machine = await opened.boot(name, { binds });
  await machine.writeFile(
    "/etc/systemd/system/bureau-daemon.service.d/times.conf",
    `[Service]\nEnvironment='BUREAU_UPGRADE_TIMES=${JSON.stringify(TIMES)}'\n`,
  );
}

/** As an operator does: labels lie beside the machine's own facts. */
async function label(name: string, labels: Readonly<Record<string, string>>): Promise<void> {
  const room = `${FLEET}/machine`;
  const events = await fleet.json<{ stateKey: string; content: object }[]>(
    `matrix state get ${room} m.bureau.machine_info`,
  );
  const key = `${FLEET}/machine/${name}:${fleet.hs.serverName}`;
  const info = events.find((event) => event.stateKey === key);
  if (info === undefined) throw new Error(`no m.bureau.machine_info of ${name}`);
  const content = JSON.stringify({ ...info.content, labels });
  await fleet.op.ok(`${bureau} matrix state set ${room} m.bureau.machine_info --key ${key} '${content}'`);
}

const machine = (name: string): Machine => lab().machine(name);
type Shown = Rollout & { readonly id: string };
const at = `--fleet ${FLEET}`;
const upgrade = (args: string) => fleet.command(`machine upgrade ${args} ${at}`, { timeoutMs: 110_000 });
const show = (id: string): Promise<Shown> => fleet.json<Shown>(`rollout show ${id} ${at}`);
const newest = async (): Promise<Shown | undefined> =>
  (await fleet.json<{ rollouts: Shown[] }>(`rollout list ${at}`)).rollouts[0];

/** Runs it to its end. Returns its exit code and the rollout in Matrix. */
async function rollOut(args: string): Promise<{ code: number; rollout: Shown; stderr: string }> {
  const { code, stdout, stderr } = await upgrade(`${args} --json`);
  try {
    const { id } = JSON.parse(stdout) as Shown;
    return { code, rollout: await show(id), stderr };
  } catch {
    throw new Error(`machine upgrade ${args} exited with ${code}:\n${stdout}\n${stderr}`);
  }
}

const statesOf = ({ machines }: Rollout): Record<string, string> =>
  Object.fromEntries(machines.map(({ machine: name, state }) => [name.split("/").at(-1) ?? "", state]));

type Listed = { readonly machines: { name: string; version?: { host_environment_path: string } }[] };

/** The build of each running machine, as it reports in Matrix. */
async function running(): Promise<Record<string, string | undefined>> {
  const { machines } = await fleet.json<Listed>(`machine list ${FLEET}`);
  return Object.fromEntries(
    machines
      .map(({ name, version }) => [name.split("/").at(-1) ?? "", version?.host_environment_path] as const)
      .filter(([name]) => name !== OFFLINE),
  );
}
const everywhere = (path: string): Record<string, string> => ({ m1: path, m2: path, m3: path, m4: path });

test("a preview names the programs, the kind of restart and the running agents, and does nothing", async () => {
  const before = await running();
  const { code, stdout } = await upgrade(`--all --host-env ${store("one")} --canary 1 --batch 2 --dry-run`);
  expect(code).toBe(0);
  expect(stdout).toContain("5 machines: 1 first, then 2 batches of at most 2; stops when one fails");
  expect(stdout).toMatch(/bureau-daemon +\w+ → \w+ +replaced in place/u);
  expect(stdout).toMatch(/bureau-launcher +\w+ → \w+ +replaced in place/u);
  expect(stdout).toMatch(/bureau-proxy +\w+ → \w+ +used by new sandboxes/u);
  expect(stdout).toContain(`runs there: ${FLEET}/agent/worker; no principal is restarted`);
  expect(await running()).toEqual(before);
  expect(await newest()).toBeUndefined();
});

test("--label upgrades one machine and no other", async () => {
  const before = await running();
  const { code, rollout } = await rollOut(`--label role=gpu --host-env ${store("one")}`);
  expect(code).toBe(0);
  expect(statesOf(rollout)).toEqual({ m1: "succeeded" });
  expect(await running()).toEqual({ ...before, m1: store("one") });
});

test("another command continues the rollout of a killed one; a halted rollout is resumed", async () => {
  const agent = await fleet.agentRuns(machine("m2"), "worker");
  const command = `${bureau} machine upgrade --label pool=yes --host-env ${store("two")} --batch 2 ${at}`;
  const pid = (await fleet.op.ok(`${command} > /dev/null 2>&1 & echo $!`)).trim();
  await fleet.op.eventually(`${bureau} rollout list ${at} | grep -q '1 of 4 succeeded, 2 upgrading'`);
  await fleet.op.ok(`kill -KILL ${pid}`);
  const id = (await newest())?.id ?? "";
  const other = await upgrade(`--all --host-env ${store("one")}`);
  expect(other.code).toBe(1);
  expect(other.stderr).toContain(`bureau machine upgrade --resume ${id}`);
  await fleet.do(`rollout halt ${id} ${at}`);
  expect((await show(id)).state).toBe("halted");
  const resumed = await rollOut(`--resume ${id}`);
  expect(statesOf(resumed.rollout)).toEqual(everywhere("succeeded"));
  expect(resumed.stderr).toContain("m4 succeeded");
  expect(await running()).toEqual(everywhere(store("two")));
  expect(await fleet.agentRuns(machine("m2"), "worker")).toBe(agent);
  // Builds of one number are distinguished: the offline machine runs another one.
  const names = (await fleet.do(`machine list ${FLEET}`)).match(/\d\.\d\.\d\+[0-9a-f]{8}/gu) ?? [];
  expect(names.length).toBe(NAMES.length);
  expect(new Set(names).size).toBe(2);
});

test("a bad build ends with its canary: no other machine is asked", async () => {
  const { code, rollout, stderr } = await rollOut(`--label pool=yes --host-env ${store("bad")}`);
  expect(code).toBe(1);
  expect(rollout.state).toBe("halted");
  expect(statesOf(rollout)).toEqual({ ...everywhere("pending"), m1: "failed" });
  expect(stderr).toMatch(/m1 failed .*ended before it had proven itself/u);
  expect(await running()).toEqual(everywhere(store("two")));
});

test("a failed machine halts the rollout, or rolls back all", async () => {
  const halted = await rollOut(`--label pool=yes --host-env ${store("bad3")} --batch 2 --halt-on-error`);
  expect(halted.rollout.state).toBe("halted");
  expect(statesOf(halted.rollout)).toEqual({
    m1: "succeeded",
    m2: "succeeded",
    m3: "failed",
    m4: "pending",
  });
  const mixed = { m1: store("bad3"), m2: store("bad3"), m3: store("two"), m4: store("two") };
  expect(await running()).toEqual(mixed);
  expect((await rollOut(`--label pool=yes --host-env ${store("one")} --batch 3`)).code).toBe(0);
  expect(await running()).toEqual(everywhere(store("one")));
  const back = await rollOut(`--label pool=yes --host-env ${store("bad3")} --batch 2 --rollback-on-error`);
  expect(back.code).toBe(1);
  expect(back.rollout.state).toBe("rolled-back");
  expect(statesOf(back.rollout)).toMatchObject({ m1: "rolled-back", m2: "rolled-back", m4: "pending" });
  expect(await running()).toEqual(everywhere(store("one")));
});

test("an offline machine is skipped, or waited for", async () => {
  await Bun.sleep(Math.max(0, HEARTBEAT_MS - (performance.now() - offlineSince)));
  const skipped = await rollOut(`--all --host-env ${store("two")} --batch 4`);
  expect(skipped.code).toBe(0);
  expect(statesOf(skipped.rollout)).toEqual({ ...everywhere("succeeded"), m5: "skipped" });
  const waiting = rollOut(`--all --host-env ${store("one")} --batch 4 --wait-offline`);
  await fleet.op.eventually(`${bureau} rollout list ${at} | grep -q 'running .* 4 of 5 succeeded'`);
  await machine(OFFLINE).start();
  const { code, rollout } = await waiting;
  expect(code).toBe(0);
  expect(statesOf(rollout)).toEqual({ ...everywhere("succeeded"), m5: "succeeded" });
}, 400_000);
