/** A third-party client, matrix-nio, on the embedded homeserver. Needs the Python environment of the Synapse tests. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startHomeserver } from "@bureau/homeserver/homeserver";
import { systemClock } from "@bureau/kit/clock";
import { Secret } from "@bureau/kit/secret";
import { silentLog } from "@bureau/os/testing/silent-log";
import { synapsePython } from "@bureau/testkit/synapse";
import { registerUser } from "./matrix-caller.ts";

test("matrix-nio logs in, is invited, joins, sends and receives", async () => {
  const python = await synapsePython();
  const dataDir = mkdtempSync(join(tmpdir(), "bhs-"));
  const config = {
    dataDir,
    serverName: "bureau.local",
    listen: [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }],
    registrationToken: new Secret("tok"),
  } as const;
  try {
    await using homeserver = await startHomeserver(config, { log: silentLog, clock: systemClock });
    const server = {
      url: homeserver.url,
      serverName: config.serverName,
      registrationToken: "tok",
      stop: async () => {},
    };
    const [alice, bob] = [await registerUser(server), await registerUser(server)];
    const script = join(import.meta.dir, "nio-client.py");
    const people = [alice.userId, alice.password, bob.userId, bob.password];
    const child = Bun.spawn([python, script, server.url, ...people], {
      stdout: "pipe",
      stderr: "pipe",
      timeout: 60_000,
    });
    const [output, errors] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    expect([await child.exited, errors]).toEqual([0, expect.anything()]);
    expect(JSON.parse(output)).toEqual({
      name: "Nio",
      topic: "a topic",
      members: [alice.userId, bob.userId].sort(),
      bobsLevel: 0,
      history: ["hello alice", "hello bob"],
    });
    expect(errors).not.toContain("validat");
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}, 90_000);
