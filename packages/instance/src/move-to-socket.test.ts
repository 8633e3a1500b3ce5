import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { storedSession } from "@bureau/cli/command/operator";
import { openTerminal } from "@bureau/cli/command/terminal";
import { machineSessionFile } from "@bureau/os/layout";
import {
  readMachineSession,
  readOperatorSession,
  writeMachineSession,
  writeOperatorSession,
} from "@bureau/os/session-file";
import type { UserId } from "@bureau/schema/refs";
import { readCredentials, writeCredentials } from "./credential-file.ts";
import { createInstance, findInstance, homeserverAddress, layoutFor, writeInstance } from "./instance.ts";
import { moveToSocket } from "./move-to-socket.ts";

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "bm-"));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const userId = "@bureau-admin:bureau.local" as UserId;

/** The files of an earlier version, each with a port of 127.0.0.1. */
function madeWithAPort(url: string) {
  const layout = layoutFor(home, {});
  const instance = writeInstance({ ...createInstance(layout, undefined), homeserverUrl: url });
  mkdirSync(layout.stateDir);
  writeCredentials(layout.credentialFile, {
    homeserver: url,
    adminUser: userId,
    adminToken: "t",
    registrationToken: "r",
  });
  writeOperatorSession(layout.sessionFile, { homeserver: url, userId, token: "t" });
  writeMachineSession(machineSessionFile(layout), { homeserver: url, userId, token: "t" });
  return instance;
}

test("moves every file of an instance with a port to its socket, and closes the port", () => {
  const instance = madeWithAPort("http://127.0.0.1:6167");
  const { layout } = instance;
  expect(moveToSocket(instance).homeserverUrl).toBe(homeserverAddress(layout));
  const found = findInstance(layout);
  expect(found).toMatchObject({ homeserverUrl: homeserverAddress(layout), listen: undefined });
  for (const { homeserver } of [
    readOperatorSession(layout.sessionFile),
    readMachineSession(machineSessionFile(layout)),
    readCredentials(layout.credentialFile) as { homeserver: string },
  ])
    expect(homeserver).toBe(homeserverAddress(layout));
});

test("keeps a session at another homeserver", () => {
  const instance = madeWithAPort("http://127.0.0.1:6167");
  const { layout } = instance;
  writeOperatorSession(layout.sessionFile, { homeserver: "https://elsewhere", userId, token: "t" });
  const before = readFileSync(layout.sessionFile, "utf8");
  moveToSocket(instance);
  expect(readFileSync(layout.sessionFile, "utf8")).toBe(before);
});

test("before the move, no command sends its token to another program on the port", async () => {
  const stranger = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("{}") });
  const url = `http://127.0.0.1:${stranger.port}`;
  madeWithAPort(url);
  const flags = { home, homeserver: undefined, "credential-file": undefined, "token-file": undefined };
  const invocation = { flags, terminal: openTerminal({}), env: { BUREAU_HOME: home } };
  expect(() => storedSession(invocation)).toThrow("is down");
  expect(storedSession({ ...invocation, flags: { ...flags, homeserver: url } }).homeserver).toBe(url);
  await stranger.stop(true);
});
