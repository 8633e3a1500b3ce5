import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { file } from "../resources/file.ts";
import { folder as folderResource } from "../resources/folder.ts";
import { group } from "../resources/group.ts";
import { readRecord } from "../resources/host-record.ts";
import { link } from "../resources/link.ts";
import { keyOfEntry } from "../resources/registry.ts";
import { user } from "../resources/user.ts";
import { InstallRecord } from "./install-record.ts";

const folder = mkdtempSync(join(tmpdir(), "bureau-record-"));
afterAll(() => rmSync(folder, { recursive: true }));

const path = join(folder, "installed.json");
const fresh = (): InstallRecord =>
  new InstallRecord({ path, entries: [], keyOfEntry, now: () => new Date(0) });

test("writes an intended change to the disk at once, and reads it back", () => {
  fresh().intend(folderResource.entry, { path: "/var/bureau" });
  expect(readRecord(path)?.entries).toEqual<unknown>([
    { kind: "folder", path: "/var/bureau", at: new Date(0).toISOString() },
  ]);
});

test("keeps the first entry of a resource, which has the state before", () => {
  const record = fresh();
  const before = { kind: "link", target: "/dev/null", uid: 0, gid: 0 } as const;
  record.intend(file.entry, { path: "/etc/x", before });
  record.intend(file.entry, { path: "/etc/x" });
  record.intend(link.entry, { path: "/etc/x" });
  expect(record.entries).toMatchObject([{ kind: "file", before }]);
});

test("deletes the entry of a resource that was taken back", () => {
  const record = fresh();
  record.intend(user.entry, { name: "bureau" });
  record.intend(group.entry, { name: "bureau" });
  for (const entry of record.entries) if (entry.kind === "user") record.forget(entry);
  expect(readRecord(path)?.entries.map(({ kind }) => kind)).toEqual(["group"]);
});

test("refuses a record that is unreadable, or that others may write", () => {
  expect(readRecord(join(folder, "none.json"))).toBeUndefined();
  writeFileSync(path, "{}");
  expect(() => readRecord(path)).toThrow("Cannot read the record");
  fresh().intend(user.entry, { name: "bureau" });
  chmodSync(path, 0o666);
  if (process.getuid?.() === 0) expect(() => readRecord(path)).toThrow("others than root");
  expect(readFileSync(path, "utf8")).toContain("bureau");
});
