/**
 * Joining in two runs: the first prepares the host without a bootstrap file, the second joins with it. The shown plan is
 * executed exactly, programs that cannot work yet are not started, and another run has nothing to do.
 */
import { expect, test } from "bun:test";
import { bureau, complaints, examine, FLEET, having, installed, LabFleet } from "./fleet.ts";
import { useLab } from "./use-lab.ts";

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), opened.boot("m1"), opened.boot("m2")]);
});

const alice = { user: "alice" };
const planIn = (said: string): string[] =>
  said
    .slice(said.indexOf("What --fix does:"))
    .split("\n")
    .slice(1)
    .filter((line) => /^ {2}\S/.test(line) && !/^ {2}(ok|FAIL) /.test(line))
    .map((line) => line.trim());

test("doctor first reports a bare host, with a command that works there as printed", async () => {
  const m1 = lab().machine("m1");
  const { stdout } = await m1.run(`${bureau} machine doctor`, alice);
  expect(stdout).toStartWith("Bureau is not installed on this host.");
  const typed = /To join a fleet: (\S+) machine doctor --fix/.exec(stdout)?.[1] ?? "";
  expect(typed).toBe(bureau);
  expect(await m1.ok(`${typed} version`, alice)).toContain("bureau");
  const behindSudo = /Root sees \d+ more: sudo (\S+) machine doctor/.exec(stdout)?.[1];
  if (behindSudo !== undefined) await m1.ok(`sudo ${behindSudo} version`, alice);
});

test("without a bootstrap file prepares the host, and starts no program that cannot work yet", async () => {
  const m1 = lab().machine("m1");
  const flags = fleet.doctorFlags("m1").replace(" --bootstrap-file -", "");
  const { stdout, stderr, code } = await m1.run(`${bureau} machine doctor --fix ${flags}`, alice);
  expect(code).toBe(1);
  expect(stdout).not.toContain("can fix");
  const plan = planIn(stderr);
  expect(plan.filter((line) => /^(start|enable|restart) /.test(line))).toEqual([]);
  expect(await m1.ok("systemctl list-units --failed --no-legend 'bureau*'")).toBe("");
  const states = await m1.ok("systemctl show -P ActiveState bureau-launcher bureau-daemon.socket");
  expect(new Set(states.split("\n").filter((line) => line !== ""))).toEqual(new Set(["inactive"]));
  const again = await examine(m1, "--fix", "alice");
  expect(again.changes).toEqual([]);
  expect(having(again, "fail").sort()).toEqual(["config-room", "machine-joined", "machine-key"].sort());
  const said = (await m1.run(`${bureau} machine doctor`, alice)).stdout;
  expect(said).toStartWith(`This host is prepared as ${FLEET}/machine/m1, and has not joined its fleet.`);
});

test("the second run shows all its actions, joins, and removes the used file", async () => {
  const m1 = lab().machine("m1");
  await m1.ok("umask 077; cat > bootstrap.json", { ...alice, input: await fleet.provision("m1") });
  const again = `${bureau} machine doctor --fix --bootstrap-file bootstrap.json`;
  const dry = await m1.run(`${again} --dry-run`, alice);
  const { code, stderr } = await m1.run(again, alice);
  expect(code).toBe(0);
  const plan = planIn(stderr);
  expect(plan).toEqual(planIn(dry.stdout));
  expect(plan).toContain("make the machine's key and seal it with systemd-creds");
  expect(plan).toContain("first boot: join the fleet with the bootstrap file");
  const done = stderr.split("\n").flatMap((line) => /^ {2}ok {4}(.*)$/.exec(line)?.[1] ?? []);
  expect(done.filter((line) => !plan.includes(line))).toEqual([]);
  expect((await m1.run("test -e bootstrap.json", alice)).code).toBe(1);
  expect(await m1.ok(`${installed} status`, { user: "root" })).toContain("online");
});

test("another run after success, without the file, has nothing to do", async () => {
  const m1 = lab().machine("m1");
  const { code, stdout, stderr } = await m1.run(
    `${bureau} machine doctor --fix --json --bootstrap-file bootstrap.json`,
    alice,
  );
  expect(stderr).toContain('no bootstrap file "bootstrap.json"');
  expect({ code, changes: JSON.parse(stdout).changes }).toEqual({ code: 0, changes: [] });
});

test("status is unknown for users without access, and unreachable while the homeserver is down", async () => {
  const m1 = lab().machine("m1");
  const asked = await m1.run(`${installed} status --json`, { user: "mallory" });
  expect(asked.code).toBe(1);
  expect(JSON.parse(asked.stdout)).toMatchObject({
    machine: { state: "unknown" },
    hint: expect.stringContaining("bureau-operators"),
  });
  const mallory = complaints(await examine(m1, "--operator alice", "mallory"));
  expect(mallory).toEqual({});
  await lab().machine("hs").ok("systemctl stop lab-homeserver");
  await m1.eventually("systemctl show -P StatusText bureau-daemon | grep -q 'homeserver is away'");
  const { stdout } = await m1.run(`${installed} status --json`, { user: "root" });
  expect(JSON.parse(stdout).machine.state).toBe("disconnected");
  await lab().machine("hs").ok("systemctl start lab-homeserver");
  await m1.eventually("systemctl show -P StatusText bureau-daemon | grep -q 'in sync'");
  await m1.eventually(`${installed} status`, { user: "root" });
});

test("an interrupted doctor finishes its step, lists the steps done, and completes when run again", async () => {
  const m2 = lab().machine("m2");
  await m2.ok("umask 077; cat > bootstrap.json", { ...alice, input: await fleet.provision("m2") });
  const fix = `${bureau} machine doctor --fix --bootstrap-file bootstrap.json`;
  const { stdout } = await m2.run(
    // Once the first step is done, the whole group is interrupted, as by Ctrl-C in a terminal.
    `setsid --fork sh -c 'trap : INT; echo $$ > group; ${fix} > out 2>&1; echo $? > code'
until grep -q "ok    " out 2>/dev/null; do :; done; kill -INT -- -$(cat group)
until test -s code; do sleep 0.05; done; cat out code`,
    { ...alice, timeoutMs: 120_000 },
  );
  expect(stdout.trimEnd().split("\n").at(-1)).toBe("130");
  expect(stdout).toContain(
    `To continue: ${fix.replace("--fix --bootstrap-file ", "--fix --bootstrap-file=")}`,
  );
  expect(await m2.ok(fix, alice)).toContain("0 fail");
  expect(complaints(await examine(m2, "--operator alice"))).toEqual({});
});

test("a key that this disk's copy can never open is named before it is opened, and the printed recovery works", async () => {
  const m2 = lab().machine("m2");
  const own = (await m2.ok("cat /etc/machine-id")).trim();
  await m2.ok(
    `systemctl stop bureau-daemon bureau-launcher; echo ${"0123456789abcdef".repeat(2)} > /etc/machine-id`,
  );
  const before = await examine(m2, "--operator alice");
  const key = before.checks.find(({ id }) => id === "machine-key");
  expect(key).toMatchObject({ status: "fail", found: expect.stringContaining("another /etc/machine-id") });
  expect(key?.fix).toContain("copied disk");
  await m2.ok("test -s /var/lib/systemd/credential.secret");
  // Nothing was opened: with the old id everything is as it was.
  await m2.ok(`echo ${own} > /etc/machine-id`);
  expect(complaints(await examine(m2, "--fix --operator alice"))).toEqual({});
  // Once systemd has opened it under the other id, the host's secret is gone, and only joining again helps.
  await m2.ok(
    `echo ${"0123456789abcdef".repeat(2)} > /etc/machine-id; systemctl restart --no-block bureau-launcher`,
  );
  await m2.eventually("test $(systemctl show -P ExecMainStatus bureau-launcher) = 243");
  const lost = (await examine(m2, "", "alice")).checks.find(({ id }) => id === "machine-key");
  expect(lost).toMatchObject({ status: "fail", found: expect.stringContaining("systemd cannot open it") });
  await fleet.op.ok(`${bureau} machine revoke m2 --fleet ${FLEET} --reason copied ${fleet.adminFlags}`);
  const { stdout } = await m2.run(
    `${bureau} machine doctor --fix --json --operator alice --bootstrap-file -`,
    { input: await fleet.provision("m2"), timeoutMs: 120_000 },
  );
  expect(complaints(JSON.parse(stdout))).toEqual({});
}, 240_000);

test("status names a decommissioned machine, and no command starts its daemon again", async () => {
  const m1 = lab().machine("m1");
  await fleet.do(`machine decommission ${FLEET}/machine/m1`);
  await m1.eventually("systemctl is-failed bureau-daemon");
  const starts = (): Promise<string> =>
    m1.ok("systemctl show -P ExecMainStartTimestampMonotonic bureau-daemon");
  const before = await starts();
  const { stdout, code } = await m1.run(`${installed} status --json`, { user: "root" });
  expect([code, JSON.parse(stdout).machine.state]).toEqual([1, "revoked"]);
  await examine(m1, "--operator alice");
  expect(await starts()).toBe(before);
});

test("an uninstall does exactly what its dry run shows", async () => {
  const m1 = lab().machine("m1");
  await m1.ok("touch /var/bureau/theirs /var/bureau/workspace/file");
  const flags = "--keep-data --remove-user --json";
  const uninstall = `${bureau} machine uninstall ${flags}`;
  // Whether other credentials need the host's secret is root's to see.
  const seen = await m1.json<{ kept: { why: string }[] }>(`${uninstall} --dry-run`, alice);
  expect(seen.kept.map(({ why }) => why)).toContain("only root may see whether others need it");
  const dry = await m1.json<{ removed: string[]; kept: unknown[] }>(`${uninstall} --dry-run`, {
    user: "root",
  });
  // Exit code 1: something of others lies in a folder of ours.
  const { code, stdout } = await m1.run(uninstall, alice);
  const { removed, kept } = JSON.parse(stdout);
  expect({ code, removed: dry.removed, kept: dry.kept }).toEqual({ code: 1, removed, kept });
});
