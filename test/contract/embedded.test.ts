/** The contract on the embedded homeserver, in this process, over a real socket and a real database. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startHomeserver } from "@bureau/homeserver/homeserver";
import { systemClock } from "@bureau/kit/clock";
import { Secret } from "@bureau/kit/secret";
import { silentLog } from "@bureau/os/testing/silent-log";
import { defineClientServerContract } from "./client-server-contract.ts";
import { registerUser } from "./matrix-caller.ts";

defineClientServerContract("embedded homeserver", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "bhs-"));
  const registrationToken = "contract-token";
  const config = {
    dataDir,
    serverName: "bureau.local",
    listen: [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }],
    registrationToken: new Secret(registrationToken),
  } as const;
  const server = await startHomeserver(config, { log: silentLog, clock: systemClock });
  // The first account of an embedded homeserver is its admin.
  const admin = await registerUser({
    url: server.url,
    serverName: config.serverName,
    registrationToken,
    stop: async () => {},
  });
  return {
    adminToken: admin.token,
    url: server.url,
    serverName: config.serverName,
    registrationToken,
    async stop() {
      await server[Symbol.asyncDispose]();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
});
