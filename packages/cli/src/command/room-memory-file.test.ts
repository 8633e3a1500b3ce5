import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseRoomAlias, parseRoomId, parseUserId } from "@bureau/schema/refs";
import { roomMemoryFile } from "./room-memory-file.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "brm-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const owner = { homeserver: "https://one", userId: parseUserId("@alice:one") };
const lobby = parseRoomAlias("#bureau/lobby:one");
const room = parseRoomId("!lobby:one");

test("keeps rooms in a 0600 file, for the same user at the same homeserver", () => {
  const session = join(dir, "session.json");
  expect(roomMemoryFile(session, owner).recall(lobby)).toBeUndefined();
  roomMemoryFile(session, owner).keep(new Map([[lobby, room]]));
  expect(roomMemoryFile(session, owner).recall(lobby)).toBe(room);
  expect(statSync(`${session}.rooms`).mode & 0o777).toBe(0o600);
  expect(roomMemoryFile(session, { ...owner, homeserver: "https://two" }).recall(lobby)).toBeUndefined();
  const other = { ...owner, userId: parseUserId("@bob:one") };
  expect(roomMemoryFile(session, other).recall(lobby)).toBeUndefined();
});

test("knows nothing from a file that is no memory, and writes nothing into a missing folder", () => {
  const session = join(dir, "session.json");
  writeFileSync(`${session}.rooms`, '{"rooms":{"#a:one":"!b:one"}}');
  expect(roomMemoryFile(session, owner).recall(lobby)).toBeUndefined();
  roomMemoryFile(join(dir, "none/session.json"), owner).keep(new Map([[lobby, room]]));
});
