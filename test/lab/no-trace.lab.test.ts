/**
 * A host that left is as it was before it joined: every file with owner, mode and content, every user, group and unit.
 * This holds when the doctor was killed while joining, and the uninstall while leaving.
 */
import { expect, test } from "bun:test";
import { bureau, complaints, examine, LabFleet } from "./fleet.ts";
import { diffListings } from "./listing.ts";
import type { Machine } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const TEST_MS_MAX = 300_000;

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  const machines = Promise.all(["m1", "m2", "m3", "m4"].map((name) => opened.boot(name)));
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), machines]);
  // sudo leaves a file in users' homes.
  for (const machine of await machines) await machine.ok("sudo -n true", { user: "alice" });
});

/** What listings leave out, because the system's own tools write it. */
const accountFiles =
  "sha256sum /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/.pwd.lock 2>&1; stat -c '%n %a %U:%G' /etc/*- /etc/.pwd.lock 2>&1; true";

type State = {
  readonly listing: Awaited<ReturnType<Machine["listing"]>>;
  readonly accounts: string;
  readonly loaded: string;
};

const stateOf = async (machine: Machine): Promise<State> => ({
  listing: await machine.listing(),
  accounts: await machine.ok(accountFiles),
  loaded: await machine.ok(
    "systemctl list-units --all --plain --no-legend 'bureau*' | cut -d' ' -f1; ls -A /run | grep -i bureau || true",
  ),
});

async function expectNoTrace(machine: Machine, before: State): Promise<void> {
  const after = await stateOf(machine);
  expect(diffListings(before.listing, after.listing)).toEqual([]);
  expect(after.accounts).toBe(before.accounts);
  expect(after.loaded).toBe(before.loaded);
}

const uninstall = (flags = ""): string => `${bureau} machine uninstall ${flags}`;

test(
  "a dry run changes nothing and shows every action; joining and leaving leaves no trace; no file is deleted unasked",
  async () => {
    const m1 = lab().machine("m1");
    const before = await stateOf(m1);
    const planned = await examine(m1, "--fix --dry-run", "alice");
    expect(planned.dry_run).toBe(true);
    const acts = planned.changes?.map(({ what }) => what) ?? [];
    expect(acts).toContain("write /etc/systemd/system/bureau-daemon.service");
    // Without a bootstrap file it cannot join, and nothing runs before that.
    expect(acts.filter((what) => what.startsWith("start "))).toEqual([]);
    await expectNoTrace(m1, before);
    await fleet.join(m1);
    const dry = await m1.json<{ removed: string[] }>(uninstall("--dry-run --json --remove-user"), {
      user: "root",
    });
    await m1.ok("echo mine > /var/bureau/workspace/note; chown bureau: /var/bureau/workspace/note");
    const refused = await m1.run(uninstall("--remove-user"), { user: "alice" });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("/var/bureau/workspace (1 files");
    expect(complaints(await examine(m1, "--operator alice"))).toEqual({});
    const receipt = await m1.json<{ removed: string[]; kept: unknown[] }>(
      uninstall("--json --remove-user --discard-data"),
      { user: "alice" },
    );
    expect(receipt.kept).toEqual([]);
    expect(receipt.removed.sort()).toEqual(dry.removed.sort());
    await expectNoTrace(m1, before);
    expect(await m1.ok(uninstall())).toContain("There is no Bureau on this host");
  },
  TEST_MS_MAX,
);

test(
  "killed repeatedly while joining and leaving, it completes and leaves no trace",
  async () => {
    const m2 = lab().machine("m2");
    // Leftovers of a killed systemd-sysusers, once before Bureau joined and once during its join.
    await m2.writeFile("/etc/.#group0000000000000001", "others'\n");
    const before = await stateOf(m2);
    const bootstrap = await fleet.provision("m2");
    await m2.writeFile("/run/bootstrap.json", bootstrap, { mode: 0o600 });
    const fix = `${bureau} machine doctor --fix --operator alice --bootstrap-file /run/bootstrap.json`;
    expect(await killedOnTheWay(m2, fix)).toBeGreaterThan(3);
    expect(complaints(await examine(m2, "--operator alice"))).toEqual({});
    await m2.ok(
      "rm -f /run/bootstrap.json; touch /etc/.#shadow0000000000000002 /etc/gshadow+ /etc/group.4242",
    );
    expect(await killedOnTheWay(m2, uninstall("--remove-user"))).toBeGreaterThan(3);
    await expectNoTrace(m2, before);
  },
  TEST_MS_MAX,
);

test(
  "host tools killed between two writes leave no trace and do not prevent the undo",
  async () => {
    const m2 = lab().machine("m2");
    // An administrator's own copy is named like what groupdel leaves.
    await m2.ok("cp /etc/group /etc/group.20261128");
    const before = await stateOf(m2);
    await m2.ok("mkdir /etc/bureau; touch /etc/bureau/installed.json.0123456789ab.tmp");
    await fleet.join(m2, "m2-cut");
    /** Found before the host's own program, once. */
    const tool = (name: string, script: string): Promise<unknown> =>
      m2.writeFile(
        `/usr/local/sbin/${name}`,
        `#!/bin/sh\nonce() { rm /usr/local/sbin/${name}; }\n${script}\n`,
        { mode: 0o755 },
      );
    await tool("systemctl", 'case "$*" in *disable*) once; exit 1;; esac; exec /usr/bin/systemctl "$@"');
    await tool(
      "userdel",
      'once; /usr/sbin/userdel "$@"; echo "$1:!:20000::::::" >>/etc/shadow; : >/etc/group.lock; kill -9 $PPID',
    );
    await tool("groupdel", 'once; /usr/sbin/groupdel "$@"; echo "$1:!::" >>/etc/gshadow; kill -9 $PPID');
    const codes: number[] = [];
    for (let attempt = 0; attempt < 4; attempt++)
      codes.push((await m2.run(uninstall("--remove-user"), { timeoutMs: 60_000 })).code);
    expect(codes).toEqual([1, 137, 137, 0]);
    await expectNoTrace(m2, before);
    await fleet.join(m2, "m2-once-more");
    await m2.ok(uninstall("--remove-user"));
    await expectNoTrace(m2, before);
  },
  TEST_MS_MAX,
);

/** Runs it and kills it, a seventh later each time, until it ends by itself. Returns the number of kills. */
async function killedOnTheWay(machine: Machine, command: string): Promise<number> {
  for (let kills = 0; ; kills++) {
    const afterMs = 60 * 1.15 ** kills;
    const { code, stdout, stderr } = await machine.run(`timeout -s KILL ${afterMs / 1000} ${command}`, {
      timeoutMs: 60_000,
    });
    if (code === 0) return kills;
    if (code !== 137)
      throw new Error(`after ${kills} kills "${command}" exited with ${code}:\n${stdout}${stderr}`);
  }
}

test(
  "restores replaced files, and keeps files of others",
  async () => {
    const m3 = lab().machine("m3");
    await m3.ok(
      "groupadd --system bureau-operators; mkdir -p /var/bureau; chmod 0700 /var/bureau; echo theirs > /var/bureau/theirs",
    );
    await m3.writeFile("/etc/profile.d/bureau.sh", "# theirs\n", { mode: 0o640, owner: "alice:alice" });
    await m3.ok("ln -s /dev/null /etc/systemd/system/bureau-daemon.service; systemctl daemon-reload");
    const before = await stateOf(m3);
    await fleet.join(m3);
    await m3.writeFile("/etc/bureau/theirs", "theirs\n");
    const told = await m3.run(uninstall("--json --remove-user"), { user: "alice" });
    expect(told.code).toBe(1);
    expect(JSON.parse(told.stdout).kept).toEqual([
      { what: "folder /etc/bureau", why: expect.stringContaining("theirs") },
    ]);
    await m3.ok("rm /etc/bureau/theirs");
    await m3.ok(uninstall("--remove-user"));
    await expectNoTrace(m3, before);
  },
  TEST_MS_MAX,
);

test(
  "keeps user and groups without --remove-user, removes them later with it; keeps files with --keep-data",
  async () => {
    const m4 = lab().machine("m4");
    const before = await stateOf(m4);
    await fleet.join(m4);
    await m4.ok("echo mine > /var/bureau/workspace/note");
    const first = await m4.json<{ kept: { what: string }[] }>(uninstall("--json --keep-data"), {
      user: "alice",
    });
    expect(first.kept.map(({ what }) => what)).toEqual(
      expect.arrayContaining(["user bureau", "group bureau-operators", "folder /var/bureau/workspace"]),
    );
    expect(await m4.readFile("/var/bureau/workspace/note")).toBe("mine\n");
    expect((await m4.run("id -nG alice | grep -w bureau-operators")).code).toBe(1);
    // It may rejoin in between, and the record of the first time is still known.
    await fleet.join(m4, "m4-again");
    await m4.ok(uninstall("--remove-user --discard-data"));
    await expectNoTrace(m4, before);
  },
  TEST_MS_MAX,
);
