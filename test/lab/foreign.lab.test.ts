/**
 * A host that is not as ours are: it calls itself Ubuntu, and an ordinary user may make no sandbox there, as under its
 * AppArmor. It is told so and nothing runs unsandboxed; once its administrator lets bubblewrap through, it joins.
 *
 * The restriction is a stand-in for bubblewrap that says what bubblewrap says there, because the kernel's own switch would
 * be this whole host's.
 */
import { expect, test } from "bun:test";
import { bureau, examine, FLEET, having, LabFleet } from "./fleet.ts";
import { useLab } from "./use-lab.ts";

const RESTRICTED = `#!/bin/sh
case "$1" in --version) exec /usr/bin/bwrap.real --version ;; esac
[ -e /etc/apparmor.d/allowed ] && exec /usr/bin/bwrap.real "$@"
echo 'bwrap: setting up uid map: Permission denied' >&2
exit 1
`;

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), opened.boot("ubuntu")]);
  const ubuntu = opened.machine("ubuntu");
  await ubuntu.ok("mv /usr/bin/bwrap /usr/bin/bwrap.real");
  await ubuntu.writeFile("/usr/bin/bwrap", RESTRICTED, { mode: 0o755 });
  await ubuntu.writeFile(
    "/etc/os-release",
    'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04 LTS"\n',
  );
  await ubuntu.ok("groupadd --gid 990 others && useradd --system --gid 990 somebody");
});

test("doctor names what is missing for sandboxes, in bubblewrap's own words", async () => {
  const report = await examine(lab().machine("ubuntu"));
  const found = report.checks.find(({ id }) => id === "user-namespaces");
  expect(found?.status).toBe("fail");
  expect(found?.found).toContain("setting up uid map: Permission denied");
});

test("a host where nothing can be sandboxed is no success of --fix, and runs no agent", async () => {
  const ubuntu = lab().machine("ubuntu");
  const joined = await ubuntu.run(`${bureau} machine doctor --fix ${fleet.doctorFlags("ubuntu")} --json`, {
    user: "alice",
    input: await fleet.provision("ubuntu"),
  });
  expect(joined.code).toBe(1);
  expect(having(JSON.parse(joined.stdout), "fail")).toContain("user-namespaces");
  await fleet.createAgent("ubuntu", "hopeful", "touch /tmp/unsandboxed; sleep 1000");
  await ubuntu.eventually("/var/bureau/bin/bureau status | grep -q Permission.denied");
  expect((await ubuntu.run("pgrep -u bureau -f unsandboxed")).stdout).toBe("");
});

test("once its administrator allows it, it is in health and the agent runs by itself", async () => {
  const ubuntu = lab().machine("ubuntu");
  await ubuntu.ok("mkdir -p /etc/apparmor.d && touch /etc/apparmor.d/allowed");
  await fleet.agentRuns(ubuntu, "hopeful");
  const { code, stdout } = await ubuntu.run(`${bureau} machine doctor --fix --json`);
  expect(having(JSON.parse(stdout), "fail")).toEqual([]);
  expect(code).toBe(0);
  const { machines } = await fleet.json<{ machines: { name: string }[] }>(`machine list --fleet ${FLEET}`);
  expect(machines.map(({ name }) => name)).toContain(`${FLEET}/machine/ubuntu`);
});
