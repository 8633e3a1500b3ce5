import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { undoLast } from "../doctor/undo.ts";
import { lastBackups } from "../record/backups.ts";
import { planUninstall } from "../uninstall/plan-uninstall.ts";
import { readRecord } from "./host-record.ts";
import { type Action, actionKindOf, applyAction, describeEntry, entryKindOf } from "./registry.ts";

const folder = mkdtempSync(join(tmpdir(), "bureau-resources-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = "2026-01-01T00:00:00.000Z";

/** Every kind, as in records of version 0.1.0, with its description for people. */
const old: readonly (readonly [entry: Readonly<Record<string, unknown>>, words: string])[] = [
  [{ kind: "folder", path: "/etc/bureau", at }, "folder /etc/bureau"],
  [{ kind: "file", path: "/etc/bureau/machine.conf", at }, "file /etc/bureau/machine.conf"],
  [
    {
      kind: "file",
      path: "/etc/profile.d/bureau.sh",
      at,
      before: { kind: "file", copy: "/etc/bureau/backups/x/0", uid: 0, gid: 0, mode: 0o644 },
    },
    "file /etc/profile.d/bureau.sh",
  ],
  [
    {
      kind: "link",
      path: "/etc/systemd/system/bureau-daemon.service",
      at,
      before: { kind: "link", target: "/dev/null", uid: 0, gid: 0 },
    },
    "link /etc/systemd/system/bureau-daemon.service",
  ],
  [
    { kind: "folder", path: "/var/bureau", at, before: { uid: 0, gid: 0, mode: 0o700, names: ["theirs"] } },
    "folder /var/bureau",
  ],
  [{ kind: "block", path: "/etc/nix/nix.conf", at, made: false }, "lines in /etc/nix/nix.conf"],
  [{ kind: "user", name: "bureau", at }, "user bureau"],
  [{ kind: "group", name: "bureau", at }, "group bureau"],
  [
    { kind: "member", user: "alice", group: "bureau-operators", at },
    "member alice of the group bureau-operators",
  ],
  [
    { kind: "account-files", at, files: [{ path: "/etc/passwd-", sha256: "00" }] },
    "backups of account files",
  ],
  [{ kind: "enabled", unit: "bureau-daemon.service", at }, "enabled unit bureau-daemon.service"],
  [{ kind: "package", name: "tmux", at }, "package tmux"],
  [{ kind: "sysctl", name: "user.max_user_namespaces", at, before: "0" }, "setting user.max_user_namespaces"],
  [
    { kind: "apparmor", path: "/etc/apparmor.d/bureau-bwrap", at },
    "AppArmor profile /etc/apparmor.d/bureau-bwrap",
  ],
  [
    { kind: "credential-secret", path: "/var/lib/systemd/credential.secret", at },
    "host secret /var/lib/systemd/credential.secret",
  ],
  [{ kind: "ntp", at }, "clock set by the network"],
];

function writeRecord(name: string, entries: readonly unknown[]) {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify({ version: 1, entries }, null, 2), { mode: 0o644 });
  const record = readRecord(path);
  if (record === undefined) throw new Error("there is no record");
  return record;
}

describe("a record of an earlier version", () => {
  test("is read completely, and written back unchanged", () => {
    const entries = old.map(([entry]) => entry);
    const record = writeRecord("installed.json", entries);
    expect(record.entries).toEqual<unknown>(entries);
    expect(record.entries.map(describeEntry)).toEqual(old.map(([, words]) => words));
    for (const entry of record.entries) record.update(entry);
    expect(JSON.parse(readFileSync(join(folder, "installed.json"), "utf8"))).toEqual({ version: 1, entries });
  });

  test("is taken back in the order of that version", () => {
    const { entries } = writeRecord(
      "installed.json",
      old.map(([entry]) => entry),
    );
    expect(planUninstall(entries).map(describeEntry)).toEqual([
      "enabled unit bureau-daemon.service",
      "member alice of the group bureau-operators",
      "clock set by the network",
      "setting user.max_user_namespaces",
      "AppArmor profile /etc/apparmor.d/bureau-bwrap",
      "lines in /etc/nix/nix.conf",
      "file /etc/bureau/machine.conf",
      "link /etc/systemd/system/bureau-daemon.service",
      "host secret /var/lib/systemd/credential.secret",
      "user bureau",
      "group bureau",
      "backups of account files",
      "package tmux",
      "file /etc/profile.d/bureau.sh",
      "folder /var/bureau",
      "folder /etc/bureau",
    ]);
  });

  test("restores files and links, removes only its own lines, and follows no link", async () => {
    const root = join(folder, "host");
    const ids = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const path = (name: string): string => join(root, name);
    mkdirSync(path("made"), { recursive: true });
    writeFileSync(path("copy"), "theirs\n");
    for (const name of ["changed", "new"]) writeFileSync(path(name), "ours\n");
    symlinkSync(path("copy"), path("link"));
    symlinkSync(path("copy"), path("new-link"));
    writeFileSync(
      path("shared"),
      "a = 1\n# Bureau: written by bureau machine doctor --fix\nx = 1\n# Bureau: end\n",
    );
    const saved = { kind: "file", copy: path("copy"), ...ids, mode: 0o640 };
    const record = writeRecord("used.json", [
      { kind: "folder", path: path("made"), at },
      { kind: "folder", path: root, at, before: { ...ids, mode: 0o750, names: ["copy"] } },
      { kind: "file", path: path("changed"), at, before: saved },
      { kind: "file", path: path("new"), at },
      { kind: "link", path: path("link"), at, before: { kind: "link", target: "/dev/null", ...ids } },
      { kind: "link", path: path("new-link"), at },
      { kind: "block", path: path("shared"), at, made: false },
    ]);
    for (const entry of planUninstall(record.entries)) {
      await entryKindOf(entry).takeBack(entry, { record, userStays: undefined });
      record.forget(entry);
    }
    expect(readFileSync(path("changed"), "utf8")).toBe("theirs\n");
    expect(lstatSync(path("changed")).mode & 0o777).toBe(0o640);
    expect(readlinkSync(path("link"), { encoding: "utf8" })).toBe("/dev/null");
    expect(readFileSync(path("shared"), "utf8")).toBe("a = 1\n");
    for (const name of ["new", "new-link", "made"])
      expect([name, existsSync(path(name))]).toEqual([name, false]);
    expect(readFileSync(path("copy"), "utf8")).toBe("theirs\n");
    expect(lstatSync(root).mode & 0o777).toBe(0o750);
    expect(record.entries).toEqual([]);
  });

  test("is undone from its backups, and drops entries of restored files", async () => {
    const place = join(folder, "undone");
    const run = join(folder, "backups", "2026-01-01T00-00-00.000Z");
    mkdirSync(run, { recursive: true });
    mkdirSync(join(place, "kept"), { recursive: true });
    const ids = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const copy = join(run, "0");
    writeFileSync(copy, "theirs\n");
    const path = join(place, "file");
    writeFileSync(path, "ours\n");
    writeFileSync(
      join(run, "list.json"),
      JSON.stringify({
        items: [
          { kind: "file", copy, ...ids, mode: 0o600, path },
          { kind: "folder", path: join(place, "kept"), ...ids, mode: 0o711 },
          { kind: "link", target: "/dev/null", ...ids, path: join(place, "gone", "link") },
        ],
      }),
    );
    chmodSync(join(place, "kept"), 0o700);
    const before = { kind: "file", copy, ...ids, mode: 0o600 };
    const record = writeRecord("undone.json", [{ kind: "file", path, at, before }]);
    const undone = await undoLast(record, lastBackups(join(folder, "backups")));
    expect(undone.restored).toEqual([join(place, "kept"), path]);
    expect(undone.skipped.map((skipped) => skipped.path)).toEqual([join(place, "gone", "link")]);
    expect(readFileSync(path, "utf8")).toBe("theirs\n");
    expect(lstatSync(join(place, "kept")).mode & 0o777).toBe(0o711);
    expect(record.entries).toEqual([]);
    expect(existsSync(run)).toBe(false);
  });
});

describe("actions", () => {
  test("of a lower rank come first", () => {
    const kinds: readonly Action["kind"][] = [
      "package",
      "file",
      "block",
      "accounts",
      "member",
      "folder",
      "build",
      "link",
      "sysctl",
      "apparmor",
      "reload",
      "stop",
      "remove",
      "seal-key",
      "join",
      "enable",
      "renew-tmux-socket",
      "restart",
      "start",
      "ntp",
    ];
    const byRank = [...kinds].sort((a, b) => actionKindOf({ kind: a }).rank - actionKindOf({ kind: b }).rank);
    expect(byRank).toEqual([...kinds]);
    expect(new Set(kinds.map((kind) => actionKindOf({ kind }).rank)).size).toBe(kinds.length);
  });

  test("that do not match their schema change nothing", async () => {
    const path = join(folder, "not-written");
    const action = { kind: "file", path, text: "x" } as unknown as Action;
    await expect(applyAction(action, {} as never)).rejects.toThrow();
    expect(existsSync(path)).toBe(false);
  });
});
