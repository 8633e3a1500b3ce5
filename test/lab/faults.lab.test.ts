/** Agents survive or restart after every fault under systemd: kills, reboots, power cuts, outages, wrong clocks. */
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

/** Crashes it; returns the pid of its successor. */
async function again(unit: string): Promise<string> {
  const pid = await pidOf(unit);
  await kill(unit);
  await isAnother(unit, pid);
  return await pidOf(unit);
}

for (const unit of ["bureau-launcher", "bureau-daemon"])
  test(`kill -9 of ${unit}: the agent keeps running, and its socket refuses no client`, async () => {
    const before = await fleet.agentRuns(m1(), "worker");
    const stopAsking = await startAsking(m1(), questions[unit === "bureau-daemon" ? "daemon" : "launcher"]);
    for (let round = 0; round < 3; round++) await again(unit);
    const { asked: count, refused } = await stopAsking();
    console.log(`${unit} killed three times: ${count} connections, ${refused.length} refused`);
    expect(count).toBeGreaterThan(10);
    expect(refused).toEqual([]);
    expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
  });

test("kill -9 of a proxy: the agent keeps running, and gets a new proxy", async () => {
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

test("kill -9 of the tmux server: the agent restarts in a new one", async () => {
  const before = await fleet.agentRuns(m1(), "worker");
  await kill("bureau-terminals");
  await fleet.agentRuns(m1(), "worker", before);
  expect(await m1().ok("systemctl is-active bureau-terminals")).toBe("active\n");
});

/** A request that an agent sends its proxy after SIGTERM. */
const lastWords = "curl -fsS --unix-socket /run/bureau/proxy.sock http://h/health; echo; echo bye";
const lastOutput = "/var/lib/bureau/last-output/agent+polite.txt";

/** Before its trap is set, SIGTERM ends it like any other program. */
async function politeListens(): Promise<void> {
  await fleet.agentRuns(m1(), "polite");
  const screen = "tmux -N -S /run/bureau/tmux.sock capture-pane -p -t =bureau/agent/polite:";
  await m1().eventually(`${screen} | grep -qx up`, { user: "bureau" });
}

test("stop drains, start restarts everything, and nothing runs in between", async () => {
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
  // A client's request does not start a stopped program again.
  expect((await m1().run(`${installed} status`)).code).toBe(1);
  expect(await m1().ok("systemctl is-active bureau-daemon || true")).toBe("inactive\n");
  await m1().ok("systemctl start bureau-launcher");
  await fleet.agentRuns(m1(), "worker");
  expect(await m1().ok("systemctl is-active bureau-daemon bureau-daemon.socket bureau-launcher.socket")).toBe(
    "active\nactive\nactive\n",
  );
});

test("reboot and power cut: the agent restarts without help", async () => {
  for (const again of [() => m1().reboot(), () => m1().powerCut()]) {
    const started = performance.now();
    await again();
    await fleet.agentRuns(m1(), "worker");
    console.log(`agent back ${((performance.now() - started) / 1000).toFixed(1)} s after it went down`);
  }
});

test("an orderly shutdown lets agents finish, and send their last requests", async () => {
  await politeListens();
  await m1().ok(`rm ${lastOutput}`);
  await m1().reboot();
  expect(await m1().ok(`cat ${lastOutput}`)).toMatch(/"ok"[\s\S]*bye/);
});

test("homeserver unreachable at boot: the machine waits, reports that, and continues when it is reachable", async () => {
  await fleet.hs.stop();
  await m1().reboot();
  await m1().eventually(`systemctl is-active bureau-daemon`);
  expect(await m1().ok("systemctl show -P StatusText bureau-daemon")).toContain("the homeserver is away");
  const { checks } = await examine(m1(), "--check homeserver,machine-session");
  expect(checks.find(({ id }) => id === "homeserver")?.status).toBe("fail");
  await fleet.hs.start();
  await fleet.agentRuns(m1(), "worker");
});

test("a homeserver outage delays decisions and interrupts no agent", async () => {
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
  test(`a hung ${unit} is killed by the watchdog and restarts; agents keep running, and no client is refused`, async () => {
    const before = await fleet.agentRuns(m1(), "worker");
    const folder = `/run/systemd/system/${unit}.service.d`;
    await m1().ok(
      `mkdir -p ${folder} && printf '[Service]\\nWatchdogSec=3\\n' > ${folder}/w.conf && systemctl daemon-reload`,
    );
    // A program reads the interval when it starts.
    const started = await again(unit);
    const stopAsking = await startAsking(m1(), questions[unit === "bureau-daemon" ? "daemon" : "launcher"]);
    await m1().ok(`kill -STOP ${started}`);
    await isAnother(unit, started);
    expect((await stopAsking()).refused).toEqual([]);
    expect(await fleet.agentRuns(m1(), "worker")).toBe(before);
    await m1().ok(`rm -r ${folder} && systemctl daemon-reload`);
    await again(unit);
  });

test("a launcher that crashes and leaves a process behind restarts, with its dependents", async () => {
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

test("the operator's side sees the machine throughout", async () => {
  const { machines } = await fleet.json<{ machines: { name: string; last_seen?: string }[] }>(
    `machine list --fleet ${FLEET}`,
  );
  expect(machines.map(({ name }) => name)).toEqual([`${FLEET}/machine/m1`]);
  expect((await m1().run(`${bureau} machine doctor`)).stdout).not.toBe("");
});
