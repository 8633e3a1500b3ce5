import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { UserId } from "@bureau/schema/refs";
import {
  readMachineSession,
  readOperatorSession,
  writeMachineSession,
  writeOperatorSession,
} from "./session-file.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync("/tmp/bm-");
});
afterAll(() => rmSync(folder, { recursive: true }));

test("session files are read back as written, and only their owner may read them", () => {
  const session = { homeserver: "http://127.0.0.1:6167", userId: "@a:b" as UserId, token: "t" };
  const machine = join(folder, "machine.json");
  writeMachineSession(machine, session);
  expect(readMachineSession(machine)).toEqual(session);
  expect(statSync(machine).mode & 0o777).toBe(0o600);
  const operator = join(folder, "operator.json");
  writeOperatorSession(operator, session);
  expect(readOperatorSession(operator)).toEqual(session);
  expect(() => readMachineSession(operator)).toThrow("homeserver_url");
  expect(() => readMachineSession(join(folder, "none.json"))).toThrow("There is no session");
});
