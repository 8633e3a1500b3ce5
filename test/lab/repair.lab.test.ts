/** How the doctor repairs: through one sudo, with backups, without ending running agents, and only what is needed. */
import { expect, test } from "bun:test";
import { bureau, complaints, examine, LabFleet } from "./fleet.ts";
import { useLab } from "./use-lab.ts";

const TEST_MS_MAX = 180_000;

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), opened.boot("m1")]);
  await fleet.join(opened.machine("m1"));
});

const unit = "/etc/systemd/system/bureau-daemon.service";

test(
  "--undo restores replaced files with owner and mode, and the next fix replaces them again",
  async () => {
    const m1 = lab().machine("m1");
    await m1.ok(
      `echo '# mine' >> ${unit}; chmod 0640 ${unit}; chown alice ${unit}; chmod 0700 /var/bureau/cache`,
    );
    const mine = await m1.ok(`cat ${unit}; stat -c '%a %U' ${unit} /var/bureau/cache`);
    expect(complaints(await examine(m1, "--fix --operator alice"))).toEqual({});
    const undone = await m1.json<{ restored: string[] }>(`${bureau} machine doctor --undo --json`, {
      user: "alice",
    });
    expect(undone.restored.sort()).toEqual([unit, "/var/bureau/cache"].sort());
    expect(await m1.ok(`cat ${unit}; stat -c '%a %U' ${unit} /var/bureau/cache`)).toBe(mine);
    expect(Object.keys(complaints(await examine(m1, "--operator alice")))).toEqual(
      expect.arrayContaining(["directory-cache", "unit:bureau-daemon.service"]),
    );
    expect(complaints(await examine(m1, "--fix --operator alice"))).toEqual({});
  },
  TEST_MS_MAX,
);

test(
  "asks for sudo once, and not at all when nothing needs it",
  async () => {
    const m1 = lab().machine("m1");
    await m1.writeFile(
      "/usr/local/bin/sudo",
      '#!/bin/sh\necho "$@" >> /tmp/sudo.log\nexec /usr/bin/sudo "$@"\n',
      { mode: 0o755 },
    );
    await m1.ok(": > /tmp/sudo.log; chmod 666 /tmp/sudo.log");
    await examine(m1, "--fix", "alice");
    expect(await m1.readFile("/tmp/sudo.log")).toBe("");
    await m1.ok("chmod 0755 /var/lib/bureau; rm /etc/profile.d/bureau.sh");
    const fixed = await examine(m1, "--fix", "alice");
    expect(complaints(fixed)).toEqual({});
    expect(new Set(fixed.changes?.map(({ id }) => id))).toEqual(new Set(["directory-state", "profile-file"]));
    expect((await m1.readFile("/tmp/sudo.log")).trim().split("\n")).toHaveLength(1);
  },
  TEST_MS_MAX,
);

test(
  "without sudo reports that and changes nothing",
  async () => {
    const m1 = lab().machine("m1");
    await m1.ok("chmod 0755 /var/lib/bureau");
    const { code, stderr } = await m1.run(`${bureau} machine doctor --fix`, { user: "mallory" });
    expect(code).toBe(2);
    expect(stderr).toContain("needs root");
    expect(await m1.ok("stat -c %a /var/lib/bureau")).toBe("755\n");
    expect(complaints(await examine(m1, "--fix", "alice"))).toEqual({});
  },
  TEST_MS_MAX,
);

test(
  "root does not run a bureau that the system user could have changed",
  async () => {
    const m1 = lab().machine("m1");
    await m1.ok(
      "cp -a $(readlink -f /var/bureau/programs/current) /var/bureau/programs/other; chown -R bureau: /var/bureau/programs/other; chmod 0755 /var/lib/bureau",
    );
    const { code, stderr } = await m1.run("/var/bureau/programs/other/bin/bureau machine doctor --fix", {
      user: "alice",
    });
    expect(code).toBe(2);
    expect(stderr).toContain("can be changed without root");
    await m1.ok("rm -r /var/bureau/programs/other; chmod 0700 /var/lib/bureau");
  },
  TEST_MS_MAX,
);

test(
  "sandboxes keep running through repairs of the launcher, its socket and its unit",
  async () => {
    const m1 = lab().machine("m1");
    await fleet.do(
      "agent create lasting --machine bureau/fleet/prod/machine/m1 --command 'sleep 1000' --no-wait",
    );
    const pid = await m1.eventually("pgrep --exact --full 'sleep 1000'");
    for (const fault of [
      "rm /run/bureau/launcher.sock",
      "echo '# mine' >> /etc/systemd/system/bureau-launcher.service",
      "rm /run/bureau/tmux.sock",
    ]) {
      await m1.ok(fault);
      expect(complaints(await examine(m1, "--fix --operator alice"))).toEqual({});
      expect(await m1.ok("pgrep --exact --full 'sleep 1000'")).toBe(pid);
    }
    await fleet.do("agent destroy lasting --machine bureau/fleet/prod/machine/m1 --no-wait");
  },
  TEST_MS_MAX,
);

test(
  "a corrected homeserver address reaches the running programs",
  async () => {
    const m1 = lab().machine("m1");
    const url = (await m1.ok("sed -n s/^BUREAU_HOMESERVER_URL=//p /etc/bureau/machine.conf")).trim();
    await m1.ok(
      "sed -i 's#^BUREAU_HOMESERVER_URL=.*#BUREAU_HOMESERVER_URL=http://127.0.0.1:9#' /etc/bureau/machine.conf; systemctl --no-block restart bureau-daemon",
    );
    expect(complaints(await examine(m1, "--operator alice"))["homeserver"]).toBe("fail");
    const who = `--homeserver ${url} --machine-name bureau/fleet/prod/machine/m1 --server-name bureau.lab --fleet bureau/fleet/prod`;
    expect(complaints(await examine(m1, `--fix ${who}`, "alice"))).toEqual({});
  },
  TEST_MS_MAX,
);

test(
  "a machine is healthy after a reboot",
  async () => {
    const m1 = lab().machine("m1");
    await m1.reboot();
    await m1.eventually(`${bureau} machine doctor --operator alice`);
    expect(complaints(await examine(m1, "", "alice"))).toEqual({});
  },
  TEST_MS_MAX,
);

test(
  "a single check, an unknown check, and contradicting flags",
  async () => {
    const m1 = lab().machine("m1");
    const said = await examine(m1, "--check homeserver --check clock,disk-run", "alice");
    expect(said.checks.map(({ id }) => id).sort()).toEqual(["clock", "disk-run", "homeserver"]);
    for (const wrong of ["--check homserver", "--fix --undo", "--dry-run", "--fix --homeserver http://x"]) {
      const { code, stderr } = await m1.run(`${bureau} machine doctor ${wrong}`);
      expect([wrong, code]).toEqual([wrong, 2]);
      expect(stderr).toContain("→");
    }
  },
  TEST_MS_MAX,
);
