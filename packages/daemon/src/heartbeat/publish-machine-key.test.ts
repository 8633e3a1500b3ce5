import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseEventId, parseRoomId, parseUserId } from "@bureau/schema/refs";
import { publishMachineKey } from "./publish-machine-key.ts";

test("publishes a missing or replaced key again, and leaves a valid one", async () => {
  const dir = mkdtempSync(join(tmpdir(), "bk-"));
  const file = join(dir, "machine-key.pub");
  let stands: unknown;
  const session = {
    getState: async () => stands,
    putState: async (_room: unknown, _type: unknown, _key: unknown, content: unknown) => {
      stands = content;
      return parseEventId("$1");
    },
  };
  const publish = () =>
    publishMachineKey(session, parseRoomId("!m:s"), parseUserId("@bureau/fleet/f/machine/m:s"), file);
  expect(await publish()).toBe(false);
  writeFileSync(file, "age1own\n");
  expect([await publish(), await publish()]).toEqual([true, false]);
  expect(stands).toEqual({ algorithm: "age-x25519", public_key: "age1own" });
  stands = { algorithm: "age-x25519", public_key: "age1other" };
  expect(await publish()).toBe(true);
  rmSync(dir, { recursive: true });
});
