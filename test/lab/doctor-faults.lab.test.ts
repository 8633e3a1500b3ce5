/**
 * Every fault that the doctor knows: the test makes the fault, the doctor must name it, `--fix` must repair it
 * where possible, and a second `--fix` must find nothing to do.
 */
import { expect, test } from "bun:test";
import { checkTable } from "@bureau/host/checks/check-table";
import { hostFolders } from "@bureau/host/units/host-folders";
import { unitFiles } from "@bureau/host/units/unit-files";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { bureau, complaints, examine, LabFleet, repair } from "./fleet.ts";
import { useLab } from "./use-lab.ts";

const FAULT_MS_MAX = 180_000;

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), opened.boot("m1")]);
  await fleet.join(opened.machine("m1"));
});

type Fault = {
  readonly name: string;
  /** Makes the fault; a line of shell, as root. */
  readonly cause: string;
  /** Checks that must fail or warn; others may too. */
  readonly found: readonly string[];
  /** Repaired by `--fix`, or by this line of shell where `--fix` cannot. */
  readonly cure?: string;
};

const folderId = (path: string): string => {
  const check = checkTable.find(({ id, title }) => id.startsWith("directory-") && title === path);
  if (check === undefined) throw new Error(`no check for ${path}`);
  return check.id;
};

/** Without its state folder a machine has to join again, and its record lies in the configuration's. */
const goneFolders = hostFolders.filter(
  ({ path }) => path !== "/var/lib/bureau" && path !== "/etc/bureau" && path !== "/var/bureau",
);

const faults: readonly Fault[] = [
  ...goneFolders.map(
    ({ path }): Fault => ({ name: `${path} is missing`, cause: `rm -rf ${path}`, found: [folderId(path)] }),
  ),
  ...hostFolders.map(
    ({ path, owner }): Fault => ({
      name: `${path} has another owner`,
      cause: `chown ${owner === "root" ? "bureau:bureau" : "root:root"} ${path}`,
      found: [folderId(path)],
    }),
  ),
  ...hostFolders.map(
    ({ path }): Fault => ({
      name: `${path} is open to all`,
      cause: `chmod 0777 ${path}`,
      found: [folderId(path)],
    }),
  ),
  ...unitFiles.map(
    ({ name, path }): Fault => ({
      name: `${name} was edited`,
      cause: `echo '# mine' >> ${path}`,
      found: [`unit:${name}`],
    }),
  ),
  ...unitFiles.map(
    ({ name, path }): Fault => ({
      name: `${name} was removed`,
      cause: `rm ${path}; systemctl daemon-reload`,
      found: [`unit:${name}`],
    }),
  ),
  ...unitFiles
    .filter(({ enabled }) => enabled)
    .map(
      ({ name }): Fault => ({
        name: `${name} is disabled`,
        cause: `systemctl disable ${name}`,
        found: [`enabled:${name}`],
      }),
    ),
  ...unitFiles
    .filter(({ active }) => active)
    .map(
      ({ name }): Fault => ({
        name: `${name} was stopped`,
        cause: `systemctl stop ${name}`,
        found: [`active:${name}`],
      }),
    ),
  {
    name: "the daemon's unit is masked",
    cause:
      "systemctl stop bureau-daemon.service; rm /etc/systemd/system/bureau-daemon.service; systemctl mask bureau-daemon.service",
    found: ["unit:bureau-daemon.service", "active:bureau-daemon.service"],
  },
  {
    name: "a unit was edited and systemd not told",
    cause: "touch -d '+1 minute' /etc/systemd/system/bureau-daemon.service",
    found: ["unit:bureau-daemon.service"],
  },
  {
    name: "a unit is overridden",
    cause:
      "mkdir -p /etc/systemd/system/bureau-daemon.service.d; printf '[Service]\\nNice=5\\n' > /etc/systemd/system/bureau-daemon.service.d/x.conf; systemctl daemon-reload",
    found: ["unit:bureau-daemon.service"],
    cure: "rm -r /etc/systemd/system/bureau-daemon.service.d; systemctl daemon-reload",
  },
  ...["launcher.sock", "observe.sock", "tmux.sock"].flatMap((name): Fault[] => [
    { name: `${name} is missing`, cause: `rm /run/bureau/${name}`, found: [`socket:${name}`] },
    { name: `${name} has another mode`, cause: `chmod 0644 /run/bureau/${name}`, found: [`socket:${name}`] },
    {
      name: `${name} has another group`,
      cause: `chgrp nogroup /run/bureau/${name}`,
      found: [`socket:${name}`],
    },
    {
      name: `no program listens on ${name}`,
      cause: `rm /run/bureau/${name}; ${buildRuntime()} -e 'const s = require("node:net").createServer().listen("/run/bureau/${name}.dead", () => process.kill(process.pid, 9))'; mv /run/bureau/${name}.dead /run/bureau/${name}; chown bureau:${name === "observe.sock" ? "bureau-operators" : "bureau"} /run/bureau/${name}; chmod ${name === "tmux.sock" ? "0600" : "0660"} /run/bureau/${name}`,
      found: [`socket:${name}`],
    },
  ]),
  {
    name: "a file replaces observe.sock",
    cause: "rm /run/bureau/observe.sock; touch /run/bureau/observe.sock",
    found: ["socket:observe.sock"],
  },
  {
    name: "alice is not an operator",
    cause: "gpasswd -d alice bureau-operators",
    found: ["operator-membership"],
  },
  {
    name: "the system user is not an operator",
    cause: "gpasswd -d bureau bureau-operators",
    found: ["system-user-groups"],
  },
  { name: "the operators' group is gone", cause: "groupdel bureau-operators", found: ["operators-group"] },
  {
    name: "the system user may log in",
    cause: "usermod -s /bin/bash bureau",
    found: ["system-user"],
    cure: "usermod -s /usr/sbin/nologin bureau",
  },
  {
    name: "machine.conf is readable for its owner only",
    cause: "chmod 0600 /etc/bureau/machine.conf",
    found: ["machine-conf"],
  },
  {
    name: "machine.conf has no fleet",
    cause: "cp /etc/bureau/machine.conf /root/conf; sed -i /BUREAU_FLEET/d /etc/bureau/machine.conf",
    found: ["machine-conf"],
    cure: "cp /root/conf /etc/bureau/machine.conf",
  },
  {
    name: "machine.conf names another homeserver",
    cause:
      "cp /etc/bureau/machine.conf /root/conf; sed -i 's#^BUREAU_HOMESERVER_URL=.*#BUREAU_HOMESERVER_URL=http://127.0.0.1:9#' /etc/bureau/machine.conf",
    found: ["homeserver"],
    cure: "cp /root/conf /etc/bureau/machine.conf",
  },
  { name: "the sysusers file is gone", cause: "rm /etc/sysusers.d/bureau.conf", found: ["sysusers-file"] },
  {
    name: "the tmpfiles file was edited",
    cause: "echo >> /etc/tmpfiles.d/bureau.conf",
    found: ["tmpfiles-file"],
  },
  { name: "the profile file was edited", cause: "echo >> /etc/profile.d/bureau.sh", found: ["profile-file"] },
  {
    name: "the machine's key lies in clear",
    cause:
      "echo AGE-SECRET-KEY-1 > /var/lib/bureau/machine-key.txt; chown bureau: /var/lib/bureau/machine-key.txt",
    found: ["machine-key"],
    cure: "rm /var/lib/bureau/machine-key.txt",
  },
  {
    name: "the machine's key is sealed without a secret",
    cause:
      "cp -p /var/lib/bureau/machine-key.cred /root/cred; echo x | systemd-creds encrypt --with-key=null --name=machine-key - /var/lib/bureau/machine-key.cred",
    found: ["machine-key"],
    cure: "cp -p /root/cred /var/lib/bureau/machine-key.cred",
  },
  {
    name: "another key is published",
    cause:
      "cp -p /var/lib/bureau/machine-key.pub /root/pub; printf age1wrong > /var/lib/bureau/machine-key.pub",
    found: ["published-key"],
    cure: "cp -p /root/pub /var/lib/bureau/machine-key.pub",
  },
  {
    name: "programs of the build were changed",
    cause: "echo '//' >> $(readlink -f /var/bureau/programs/current)/lib/bureau-proxy/main.js",
    found: ["build"],
  },
  {
    name: "the runtime cannot be executed",
    cause: "chmod a-x $(readlink -f /var/bureau/programs/current)/runtime/bun",
    found: ["build"],
  },
  {
    name: "the system user may change the build",
    cause: "chown -R bureau: $(readlink -f /var/bureau/programs/current)",
    found: ["build"],
  },
  {
    name: "the boot link is dangling",
    cause: "ln -sfn /var/bureau/builds/none /var/bureau/programs/current",
    found: ["build"],
  },
  { name: "a command is gone", cause: "rm /var/bureau/bin/bureau", found: ["commands"] },
  {
    name: "the daemon runs another build than the boot link names",
    cause:
      'B=$(readlink -f /var/bureau/programs/current); cp -a $B /var/bureau/builds/other; sed -i \'s/"version": "[^"]*"/"version": "0.0.1"/\' /var/bureau/builds/other/build.json; ln -sfn /var/bureau/builds/other /var/bureau/programs/current; systemctl restart bureau-daemon; ln -sfn $B /var/bureau/programs/current; chown -h bureau: /var/bureau/programs/current',
    found: ["running-daemon"],
  },
  {
    name: "the folder of sockets is full",
    cause: "fallocate -l $(($(stat -f -c '%a*%S' /run/bureau) - 4194304)) /run/bureau/full",
    found: ["disk-run"],
    cure: "rm /run/bureau/full",
  },
  {
    name: "bubblewrap is missing, and no mirror is reachable",
    cause: "mv /usr/bin/bwrap /usr/bin/bwrap.away",
    found: ["bubblewrap"],
    cure: "mv /usr/bin/bwrap.away /usr/bin/bwrap",
  },
];

function buildRuntime(): string {
  return [bureau.replace("/bin/bureau", "/runtime/bun"), ...runtimeArguments].join(" ");
}

const asAlice = "--operator alice";

test(
  "a joined machine is healthy, for root and for its operator",
  async () => {
    const m1 = lab().machine("m1");
    expect(complaints(await examine(m1, asAlice))).toEqual({});
    expect(complaints(await examine(m1, "", "alice"))).toEqual({});
  },
  FAULT_MS_MAX,
);

for (const fault of faults)
  test(
    `${fault.name}: ${fault.cure === undefined ? "found and repaired" : "found"}`,
    async () => {
      const m1 = lab().machine("m1");
      await m1.ok(fault.cause);
      const before = complaints(await examine(m1, asAlice));
      for (const id of fault.found) expect(Object.keys(before)).toContain(id);
      const fixed = await examine(m1, `--fix ${asAlice}`);
      if (fault.cure === undefined) {
        if (Object.keys(complaints(fixed)).length > 0)
          console.error(fixed.changes, fixed.errors, await m1.journal("bureau-*", 40));
        expect(complaints(fixed)).toEqual({});
        expect(fixed.changes).not.toEqual([]);
      } else {
        for (const id of fault.found) expect(Object.keys(complaints(fixed))).toContain(id);
        await m1.ok(fault.cure);
      }
      const again = await examine(m1, `--fix ${asAlice}`);
      expect(complaints(again)).toEqual({});
      if (fault.cure === undefined) expect(again.changes).toEqual([]);
    },
    FAULT_MS_MAX,
  );

test(
  "an unreachable homeserver is reported, and breaks nothing",
  async () => {
    const m1 = lab().machine("m1");
    await lab().machine("hs").ok("systemctl stop lab-homeserver");
    const away = complaints(await examine(m1, asAlice));
    expect(away["homeserver"]).toBe("fail");
    expect((await repair(m1)).changes).toEqual([]);
    await lab().machine("hs").ok("systemctl start lab-homeserver");
    await m1.eventually(`${bureau} machine doctor ${asAlice}`);
  },
  FAULT_MS_MAX,
);

test(
  "a revoked machine is reported, and rejoins with a new bootstrap file",
  async () => {
    const m1 = lab().machine("m1");
    await fleet.do("machine decommission bureau/fleet/prod/machine/m1");
    await m1.eventually("systemctl is-failed bureau-daemon");
    const before = complaints(await examine(m1, asAlice));
    expect(before["machine-session"]).toBe("fail");
    expect(complaints(await examine(m1, `--fix ${asAlice}`))["machine-session"]).toBe("fail");
    const bootstrap = await fleet.provision("m1");
    const { stdout } = await m1.run(`${bureau} machine doctor --fix --json ${asAlice} --bootstrap-file -`, {
      input: bootstrap,
      timeoutMs: 120_000,
    });
    expect(complaints(JSON.parse(stdout))).toEqual({});
    expect(complaints(await examine(m1, asAlice))).toEqual({});
  },
  FAULT_MS_MAX,
);
