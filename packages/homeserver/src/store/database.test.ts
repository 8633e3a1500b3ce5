import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import type { JsonObject } from "../rooms/room-event.ts";
import { type HomeserverDatabase, openDatabase } from "./database.ts";
import { createDeviceStore } from "./device-store.ts";
import { createUserDataStore } from "./user-data-store.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "bhs-"));
  folders.push(folder);
  return folder;
}
const refusal = (act: () => HomeserverDatabase): BureauError => {
  try {
    act().close();
  } catch (error) {
    if (error instanceof BureauError) return error;
    throw error;
  }
  throw new Error("it was opened");
};

test("runs an after-commit act once the commit is durable, and not after a failure", () => {
  const db = openDatabase(makeFolder());
  const ran: string[] = [];
  db.transaction(() => {
    db.afterCommit(() => ran.push("outer"));
    db.transaction(() => db.afterCommit(() => ran.push("inner")));
    expect(ran).toEqual([]);
  });
  expect(ran).toEqual(["outer", "inner"]);
  const fail = (): void =>
    db.transaction(() => {
      db.afterCommit(() => ran.push("never"));
      db.onRollback(() => ran.push("undo first"));
      db.onRollback(() => ran.push("undo second"));
      throw new Error("no");
    });
  expect(fail).toThrow("no");
  expect(ran.slice(2)).toEqual(["undo second", "undo first"]);
  db.close();
});

test("a failed transaction leaves nothing behind and the next one works", () => {
  const db = openDatabase(makeFolder());
  const store = createUserDataStore(db);
  const fail = (): void =>
    db.transaction(() => {
      store.setAccountData("@a:x", "", "m.t", { n: 1 }, db.advance());
      throw new Error("no");
    });
  expect(fail).toThrow("no");
  expect(store.accountData("@a:x", "", "m.t")).toBeUndefined();
  db.transaction(() => store.setAccountData("@a:x", "", "m.t", { n: 2 }, db.advance()));
  expect(store.accountData("@a:x", "", "m.t")).toEqual({ n: 2 });
  db.close();
});

test("a failed transaction returns its stream numbers and marks", () => {
  const folder = makeFolder();
  const db = openDatabase(folder);
  const devices = createDeviceStore(db);
  db.transaction(() => devices.setDeviceKeys("@a:x", "D", {}));
  const before = db.position;
  const fail = (): void =>
    db.transaction(() => {
      devices.setDeviceKeys("@a:x", "D", { n: 1 });
      devices.setDeviceKeys("@b:x", "D", { n: 1 });
      throw new Error("no");
    });
  expect(fail).toThrow("no");
  expect(db.position).toBe(before);
  expect(devices.listChangesSince(before)).toEqual([]);
  expect(devices.listChangesSince(before - 1)).toEqual(["@a:x"]);
  db.close();
  const again = openDatabase(folder);
  expect(again.position).toBe(before);
  again.close();
});

test("the stream never goes back, even when the newest rows were delivered and deleted", () => {
  const folder = makeFolder();
  const db = openDatabase(folder);
  const devices = createDeviceStore(db);
  db.transaction(() => {
    for (let n = 0; n < 5; n++) devices.addMessage("@a:x", "D", { n });
  });
  const before = db.position;
  devices.acknowledgeMessages("@a:x", "D", before);
  expect(devices.messages("@a:x", "D", before).contents).toEqual([]);
  db.close();
  const again = openDatabase(folder);
  expect(again.position).toBeGreaterThanOrEqual(before);
  again.close();
});

test("limits the number of messages that a device never fetches", () => {
  const db = openDatabase(makeFolder());
  const devices = createDeviceStore(db);
  db.transaction(() => {
    for (let n = 0; n < 2_010; n++) devices.addMessage("@a:x", "D", { n });
  });
  const waiting = allMessages(db);
  expect(waiting.length).toBe(2_000);
  expect(waiting.at(-1)).toEqual({ n: 2_009 });
  db.close();
});

test("limits the bytes of messages that a device never fetches", () => {
  const db = openDatabase(makeFolder());
  const devices = createDeviceStore(db);
  const body = "y".repeat(60_000);
  db.transaction(() => {
    for (let n = 0; n < 40; n++) devices.addMessage("@a:x", "D", { n, body });
    devices.addMessage("@a:x", "other", { n: 0, body });
  });
  expect(allMessages(db).map((content) => content["n"])).toEqual(
    Array.from({ length: 17 }, (_, n) => n + 23),
  );
  expect(devices.messages("@a:x", "other", db.position).contents).toHaveLength(1);
  db.close();
});

/** Fetches and acknowledges until nothing waits for the device. */
function allMessages(db: HomeserverDatabase): JsonObject[] {
  const devices = createDeviceStore(db);
  const all: JsonObject[] = [];
  for (;;) {
    const { contents, reach } = devices.messages("@a:x", "D", db.position);
    if (contents.length === 0) return all;
    all.push(...contents);
    devices.acknowledgeMessages("@a:x", "D", reach);
  }
}

test("refuses a database of a newer release, and a file that is not a database", () => {
  const newer = makeFolder();
  const raw = new Database(join(newer, "homeserver.db"), { create: true });
  raw.run("PRAGMA user_version = 999");
  raw.close();
  expect(refusal(() => openDatabase(newer))).toMatchObject({ code: "unsupported" });
  const garbage = makeFolder();
  writeFileSync(
    join(garbage, "homeserver.db"),
    "this is no database, but it is long enough to be looked at ".repeat(40),
  );
  expect(refusal(() => openDatabase(garbage))).toMatchObject({ code: "failed" });
});
