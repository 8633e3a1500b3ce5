/**
 * Upgrade and rollback in place on a machine with systemd, with the real times, while an agent works. With
 * Synapse as an independent witness of the agent's messages; the other scenarios use the embedded homeserver.
 */
import { afterAll, expect, test } from "bun:test";
import { prepend, TestBuilds } from "../upgrade/test-builds.ts";
import { bureau, examine, FLEET, having, LabFleet } from "./fleet.ts";
import { buildsInside } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const environments = new TestBuilds();
afterAll(() => environments[Symbol.dispose]());

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  const binds = {
    [environments.make()]: `${buildsInside}/good`,
    [environments.make(prepend("bureau-daemon", "process.exit(3)"))]: `${buildsInside}/exits`,
    [environments.make(prepend("bureau-daemon", "for(;;);"))]: `${buildsInside}/hangs`,
    [environments.make(prepend("bureau-launcher", "process.exit(3)"))]: `${buildsInside}/launcher-exits`,
  };
  [fleet] = await Promise.all([LabFleet.open(opened, "synapse"), opened.boot("m1", { binds })]);
  await fleet.join(opened.machine("m1"));
  await fleet.createAgent("m1", "worker", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done");
  await fleet.agentRuns(opened.machine("m1"), "worker");
});
const m1 = () => lab().machine("m1");
const pids = async (): Promise<string> =>
  (await m1().ok("systemctl show -P MainPID bureau-launcher bureau-daemon bureau-terminals")).trim();

type Upgraded = { readonly outcome: string; readonly duration_ms: number; readonly reason?: string };

async function upgrade(to: string): Promise<Upgraded> {
  const { stdout, stderr } = await fleet.command(`machine upgrade m1 --fleet ${FLEET} ${to} --wait --json`, {
    timeoutMs: 200_000,
  });
  try {
    return JSON.parse(stdout) as Upgraded;
  } catch {
    throw new Error(`machine upgrade ${to}: ${stdout}\n${stderr}\n${await m1().journal()}`);
  }
}

test("upgrades by exec, and goes back with --rollback: the same processes, the same agent", async () => {
  const [before, agent] = [await pids(), await fleet.agentRuns(m1(), "worker")];
  for (const [to, link] of [
    [`--host-env ${buildsInside}/good --on-machine`, `${buildsInside}/good`],
    ["--rollback", "/var/bureau/builds/"],
  ] as const) {
    const { outcome, duration_ms } = await upgrade(to);
    console.log(`machine upgrade ${to}: ${outcome} in ${(duration_ms / 1000).toFixed(1)} s`);
    expect(outcome).toBe("succeeded");
    expect(await pids()).toBe(before);
    expect(await fleet.agentRuns(m1(), "worker")).toBe(agent);
    expect(await m1().ok("readlink /var/bureau/programs/current")).toStartWith(link);
  }
  expect(having(await examine(m1()), "fail")).toEqual([]);
});

test.each(["exits", "launcher-exits", "hangs"].map((name) => `${buildsInside}/${name}`))(
  "a bad version (%s) is taken back by itself and reported, and the agent never noticed",
  async (path) => {
    const agent = await fleet.agentRuns(m1(), "worker");
    const { outcome, duration_ms, reason } = await upgrade(`--host-env ${path} --on-machine`);
    console.log(`${path}: ${outcome} after ${(duration_ms / 1000).toFixed(1)} s: ${reason}`);
    expect(outcome).toBe("rolled-back");
    expect(await fleet.agentRuns(m1(), "worker")).toBe(agent);
    expect(await m1().ok("readlink /var/bureau/programs/current")).toStartWith("/var/bureau/builds/");
    await m1().eventually(`${bureau} status | grep -q online`);
  },
);
