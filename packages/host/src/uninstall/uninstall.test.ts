import { describe, expect, test } from "bun:test";
import { whyNotEmpty } from "../resources/folder-content.ts";
import { describeEntry } from "../resources/registry.ts";
import type { Stay, UninstallOptions } from "../resources/resource.ts";
import { whyUserStays } from "./data-held.ts";
import { planUninstall } from "./plan-uninstall.ts";
import { foreseeUninstall, isIncomplete } from "./uninstall.ts";

const at = "2026-01-01T00:00:00.000Z";
/** In the order in which a fix creates them. */
const made = [
  { kind: "folder", path: "/etc/bureau", at },
  { kind: "folder", path: "/etc/bureau/backups", at },
  { kind: "file", path: "/etc/systemd/system/bureau-daemon.service", at },
  { kind: "file", path: "/etc/profile.d/bureau.sh", at },
  { kind: "user", name: "bureau", at },
  { kind: "group", name: "bureau", at },
  { kind: "account-files", at, files: [] },
  { kind: "member", user: "alice", group: "bureau-operators", at },
  { kind: "folder", path: "/var/bureau", at },
  { kind: "folder", path: "/var/bureau/workspace", at },
  { kind: "folder", path: "/var/bureau/builds", at },
  { kind: "folder", path: "/var/bureau/bin", at },
  { kind: "link", path: "/var/bureau/bin/bureau", at },
  { kind: "enabled", unit: "bureau-daemon.service", at },
];

describe("an uninstall", () => {
  const order = planUninstall(made).map(describeEntry);
  const isBefore = (one: string, other: string): void =>
    expect(order.indexOf(one)).toBeLessThan(order.indexOf(other));

  test("takes back every resource, each once", () => {
    expect([...order].sort()).toEqual(made.map(describeEntry).sort());
  });

  test("disables units before it removes their files, and removes the content of folders before the folders", () => {
    isBefore("enabled unit bureau-daemon.service", "file /etc/systemd/system/bureau-daemon.service");
    isBefore("folder /var/bureau/workspace", "folder /var/bureau");
    isBefore("link /var/bureau/bin/bureau", "folder /var/bureau/bin");
  });

  test("removes users after their files, and the tools' own backups after the last change of accounts", () => {
    isBefore("folder /var/bureau/workspace", "user bureau");
    isBefore("user bureau", "group bureau");
    isBefore("group bureau", "backups of account files");
    isBefore("backups of account files", "folder /etc/bureau/backups");
  });

  test("removes its programs near the end and its record last", () => {
    isBefore("backups of account files", "folder /var/bureau/builds");
    expect(order.at(-1)).toBe("folder /etc/bureau");
  });
});

test("is incomplete when a folder stays because of others' files, not because of kept items", () => {
  const kept = (reason: Stay["reason"]) =>
    isIncomplete({ removed: [], kept: [{ what: "folder /etc/bureau", why: "why", reason }] });
  expect(kept("holds-others")).toBe(true);
  expect(kept("not-restored")).toBe(true);
  expect(kept("needed")).toBe(false);
  expect(kept("asked")).toBe(false);
});

test("keeps a user while files of that user are kept", () => {
  const options = { removeUser: true, removePackages: false } as const;
  expect(whyUserStays({ ...options, data: "keep" }, true)?.why).toContain("the kept files");
  expect(whyUserStays({ ...options, data: "keep" }, false)).toBeUndefined();
  expect(whyUserStays({ ...options, data: "discard" }, true)).toBeUndefined();
  expect(whyUserStays({ ...options, removeUser: false, data: "discard" }, false)?.why).toBe(
    "--remove-user removes it",
  );
});

test("a folder with only kept items does not make an uninstall incomplete", () => {
  expect(whyNotEmpty("/var/bureau", ["workspace"], made)).toEqual({
    reason: "needed",
    why: "it holds kept items",
  });
  expect(whyNotEmpty("/var/bureau", ["workspace", "work"], made)).toEqual({
    reason: "holds-others",
    why: "it holds files that are not Bureau's: work",
  });
  expect(whyNotEmpty("/var/bureau", [], made)).toBeUndefined();
});

describe("a dry run", () => {
  const options = { removeUser: true, removePackages: false, data: "discard" } as const;
  const folders: Record<string, string[]> = {
    "/etc/bureau": ["installed.json", "backups"],
    "/var/bureau": ["workspace", "builds", "bin"],
    "/var/bureau/bin": ["bureau"],
  };
  const foresee = (changed: Record<string, string[]>, given: Partial<UninstallOptions> = {}, stays?: Stay) =>
    foreseeUninstall(
      { entries: made },
      { ...options, ...given },
      stays,
      (path) => ({ ...folders, ...changed })[path],
    );

  test("predicts that all our folders are removed when they contain nothing else", async () => {
    const { removed, kept } = await foresee({});
    expect(kept).toEqual([]);
    expect(removed).toEqual(planUninstall(made).map(describeEntry));
  });

  test("predicts every folder that is kept because it contains a kept item", async () => {
    const { removed, kept } = await foresee(
      { "/var/bureau/workspace": ["agent"], "/var/bureau/bin": ["bureau", "theirs"] },
      { data: "keep" },
      { reason: "asked", why: "it owns the kept files" },
    );
    expect(Object.fromEntries(kept.map(({ what, why }) => [what, why]))).toEqual({
      "user bureau": "it owns the kept files",
      "group bureau": "it owns the kept files",
      "backups of account files": "it goes with the user",
      "folder /var/bureau/workspace": "--keep-data",
      "folder /var/bureau/bin": "it holds files that are not Bureau's: theirs",
      "folder /var/bureau": "it holds kept items",
      "folder /etc/bureau/backups": "it holds backups that are not restored yet",
      "folder /etc/bureau": "it holds the record of kept items",
    });
    expect([...removed, ...kept.map(({ what }) => what)].sort()).toEqual(made.map(describeEntry).sort());
  });
});
