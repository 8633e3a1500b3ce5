/**
 * A host unlike ours: its os-release says Ubuntu, and an ordinary user may create no sandbox there, as under its
 * AppArmor. Doctor reports that and nothing runs unsandboxed. When its administrator allows bubblewrap, it joins. Its
 * resolver file is a link into /run, and private keys lie beside its certificates. Every built-in template starts.
 *
 * A stand-in for bubblewrap prints bubblewrap's error there, because the kernel's setting would
 * affect the whole host.
 */
import { expect, test } from "bun:test";
import { quote } from "./execute.ts";
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
  await ubuntu.ok(
    "mkdir -p /run/systemd/resolve /etc/ssl/private && chmod 0710 /etc/ssl/private && echo secret > /etc/ssl/private/key.pem",
  );
  await ubuntu.ok(
    "echo nameserver 127.0.0.53 > /run/systemd/resolve/stub-resolv.conf && ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
  );
  await ubuntu.ok("groupadd --gid 990 others && useradd --system --gid 990 stranger");
});

test("doctor names what is missing for sandboxes, in bubblewrap's own words", async () => {
  const report = await examine(lab().machine("ubuntu"));
  const found = report.checks.find(({ id }) => id === "user-namespaces");
  expect(found?.status).toBe("fail");
  expect(found?.found).toContain("setting up uid map: Permission denied");
});

test("--fix fails on a host without sandboxes, which runs no agent", async () => {
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

test("when its administrator allows it, the host is healthy and the agent starts by itself", async () => {
  const ubuntu = lab().machine("ubuntu");
  await ubuntu.ok("mkdir -p /etc/apparmor.d && touch /etc/apparmor.d/allowed");
  await fleet.agentRuns(ubuntu, "hopeful");
  const { code, stdout } = await ubuntu.run(`${bureau} machine doctor --fix --json`);
  expect(having(JSON.parse(stdout), "fail")).toEqual([]);
  expect(code).toBe(0);
  const { machines } = await fleet.json<{ machines: { name: string }[] }>(`machine list --fleet ${FLEET}`);
  expect(machines.map(({ name }) => name)).toContain(`${FLEET}/machine/ubuntu`);
});

test("every built-in template starts there, with the resolver and without private keys", async () => {
  const ubuntu = lab().machine("ubuntu");
  const names = ["base", "base-networked", "agent-base", "service-base", "agent", "service", "greeter"];
  const command = quote("cat /etc/resolv.conf; ls -A /etc/ssl/private; echo looked; sleep 1000");
  for (const name of names)
    await fleet.do(
      `agent create t-${name} --machine ${FLEET}/machine/ubuntu --template bureau/template:${name} --command ${command}`,
    );
  for (const name of names) {
    await fleet.agentRuns(ubuntu, `t-${name}`);
    const screen = `tmux -S /run/bureau/tmux.sock capture-pane -p -J -S -200 -t =bureau/agent/t-${name}:`;
    await ubuntu.eventually(`${screen} | grep -qx looked`);
    const said = await ubuntu.ok(screen);
    expect(said).not.toContain("key.pem");
    if (name === "base-networked" || name.endsWith("-base")) expect(said).toContain("127.0.0.53");
  }
});
