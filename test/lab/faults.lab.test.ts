/** Whatever dies under systemd, agents are back or never left: kills, reboots, power cuts, outages, wrong clocks. */
import { expect, test } from "bun:test";
import { questions, startAsking } from "./asking.ts";
import { bureau, examine, FLEET, installed, LabFleet } from "./fleet.ts";
import { useLab } from "./use-lab.ts";

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), opened.boot("m1", { user: "root" })]);
  const m1 = opened.machine("m1");
  await fleet.join(m1);
  await fleet.createAgent("m1", "worker", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done");
  await fleet.agentRuns(m1, "worker");
});
const m1 = () => lab().machine("m1");
const kill = (unit: string): Promise<string> => m1().ok(`kill -9 $(systemctl show -P MainPID ${unit})`);

const pidOf = async (unit: string): Promise<string> =>
  (await m1().ok(`systemctl show -P MainPID ${unit}`)).trim();
const isAnother = (unit: string, pid: string): Promise<string> =>
  m1().eventually(
    `p=$(systemctl show -P MainPID ${unit}); [ "$p" != 0 ] && [ "$p" != ${pid} ] && systemctl is-active ${unit}`,
  );

/** Crashes it; the pid of the one that came after. */
async function again(unit: string): Promise<string> {
  const pid = await pidOf(unit);
  await kill(unit);
  await isAnother(unit, pid);
  return await pidOf(unit);
}

for (const unit of ["bureau-launcher", "bureau-daemon"])
  test(`kill -9 of ${unit}: the agent never leaves, and nobody is refused at its socket`, async () => {
    const before = await fleet.agentRuns(m1(), "worker");
    const stopAsking = await startAsking(m1(), questions[unit === "bureau-daemon" ? "daemon" : "launcher"]);
    for (let round = 0; round < 3; round++) await again(unit);
    const { asked: count, refused } = await stopAsking();
    console.log(`${unit} killed three times: ${count} connections, ${refused.length} refused`);
    expect(count).toBeGreaterThan(10);
    expect(refused).toEqual([]);
    expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
  });

test("kill -9 of a proxy: the agent never leaves, and has a proxy again", async () => {
  const before = await fleet.agentRuns(m1(), "worker");
  const health = "curl -fsS --unix-socket /run/bureau/fleet/prod/agent/worker.proxy.sock http://h/health";
  await m1().ok(health);
  const killed = await m1().ok(
    "for p in $(pgrep -f [b]ureau-proxy/main.js); do kill -9 $p && echo killed || true; done",
  );
  expect(killed).toContain("killed");
  await m1().eventually(health);
  expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
});

test("kill -9 of the terminal server: the agent is back in a new one", async () => {
  const before = await fleet.agentRuns(m1(), "worker");
  await kill("bureau-terminals");
  await fleet.agentRuns(m1(), "worker", before);
  expect(await m1().ok("systemctl is-active bureau-terminals")).toBe("active\n");
});

/** What an agent that is told to end still asks its proxy. */
const lastWords = "curl -fsS --unix-socket /run/bureau/proxy.sock http://h/health; echo; echo bye";
const lastOutput = "/var/lib/bureau/last-output/agent+polite.txt";

/** Told to end before its trap is set, it would end like any other. */
async function politeListens(): Promise<void> {
  await fleet.agentRuns(m1(), "polite");
  const screen = "tmux -N -S /run/bureau/tmux.sock capture-pane -p -t =bureau/agent/polite:";
  await m1().eventually(`${screen} | grep -qx up`, { user: "bureau" });
}

test("stop drains, start brings everything back, and nothing is left running in between", async () => {
  await fleet.createAgent(
    "m1",
    "polite",
    `trap 'sleep 0.3; ${lastWords}; exit 0' TERM; echo up; while :; do sleep 0.1; done`,
  );
  await politeListens();
  await m1().ok("systemctl stop bureau-daemon bureau-launcher");
  expect(await m1().ok(`cat ${lastOutput}`)).toMatch(/"ok"[\s\S]*bye/);
  expect((await m1().run("pgrep -u bureau -a")).stdout).toBe("");
  expect((await m1().run("test -e /run/bureau/observe.sock")).code).toBe(1);
  // Somebody who asks does not start it again behind the operator's back.
  expect((await m1().run(`${installed} status`)).code).toBe(1);
  expect(await m1().ok("systemctl is-active bureau-daemon || true")).toBe("inactive\n");
  await m1().ok("systemctl start bureau-launcher");
  await fleet.agentRuns(m1(), "worker");
  expect(await m1().ok("systemctl is-active bureau-daemon bureau-daemon.socket bureau-launcher.socket")).toBe(
    "active\nactive\nactive\n",
  );
});

test("reboot and power cut: the agent is back without anybody's help", async () => {
  for (const again of [() => m1().reboot(), () => m1().powerCut()]) {
    const started = performance.now();
    await again();
    await fleet.agentRuns(m1(), "worker");
    console.log(`agent back ${((performance.now() - started) / 1000).toFixed(1)} s after it went down`);
  }
});

test("a machine that goes down in order lets agents say their last words, and to others", async () => {
  await politeListens();
  await m1().ok(`rm ${lastOutput}`);
  await m1().reboot();
  expect(await m1().ok(`cat ${lastOutput}`)).toMatch(/"ok"[\s\S]*bye/);
});

test("a homeserver that is away at boot: the machine waits, says so, and is back when it is", async () => {
  await fleet.hs.stop();
  await m1().reboot();
  await m1().eventually(`systemctl is-active bureau-daemon`);
  expect(await m1().ok("systemctl show -P StatusText bureau-daemon")).toContain("the homeserver is away");
  const { checks } = await examine(m1(), "--check homeserver,machine-session");
  expect(checks.find(({ id }) => id === "homeserver")?.status).toBe("fail");
  await fleet.hs.start();
  await fleet.agentRuns(m1(), "worker");
});

test("a homeserver that goes away while agents work costs decisions, not work", async () => {
  const before = await fleet.agentRuns(m1(), "worker");
  await lab().setCable("m1", false);
  await m1().eventually(`${installed} status --json | grep -q '"state": "disconnected"'`, {
    timeoutMs: 110_000,
  });
  expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
  await lab().setCable("m1", true);
  await m1().eventually(`${installed} status | grep -q online`, { timeoutMs: 110_000 });
  expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
});

for (const unit of ["bureau-daemon", "bureau-launcher"])
  test(`a hung ${unit} is ended by the watchdog and starts again; agents go on, and nobody is refused`, async () => {
    const before = await fleet.agentRuns(m1(), "worker");
    const folder = `/run/systemd/system/${unit}.service.d`;
    await m1().ok(
      `mkdir -p ${folder} && printf '[Service]\\nWatchdogSec=3\\n' > ${folder}/w.conf && systemctl daemon-reload`,
    );
    // The interval is told a program when it starts.
    const started = await again(unit);
    const stopAsking = await startAsking(m1(), questions[unit === "bureau-daemon" ? "daemon" : "launcher"]);
    await m1().ok(`kill -STOP ${started}`);
    await isAnother(unit, started);
    expect((await stopAsking()).refused).toEqual([]);
    expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
    await m1().ok(`rm -r ${folder} && systemctl daemon-reload`);
    await again(unit);
  });

test("a launcher that crashes and leaves a process behind starts again, with all that needs it", async () => {
  const before = await fleet.agentRuns(m1(), "worker");
  const pid = await pidOf("bureau-launcher");
  const daemon = await pidOf("bureau-daemon");
  const stopAsking = await startAsking(m1(), questions.launcher);
  const group = "/sys/fs/cgroup/bureau.slice/bureau-launcher.service/cgroup.procs";
  await m1().ok(`sh -c 'trap "" TERM; sleep 2' > /dev/null 2>&1 & echo $! > ${group}; kill -9 ${pid}`);
  await isAnother("bureau-launcher", pid);
  expect((await stopAsking()).refused).toEqual([]);
  expect(await pidOf("bureau-daemon")).toBe(daemon);
  expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
});

test("the operator's side sees the machine all along", async () => {
  const { machines } = await fleet.json<{ machines: { name: string; last_seen?: string }[] }>(
    `machine list --fleet ${FLEET}`,
  );
  expect(machines.map(({ name }) => name)).toEqual([`${FLEET}/machine/m1`]);
  expect((await m1().run(`${bureau} machine doctor`)).stdout).not.toBe("");
});
