/** An embedded homeserver in this process, in a folder of its own, for tests that need a real one. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startHomeserver } from "@bureau/homeserver/homeserver";
import { systemClock } from "@bureau/kit/clock";
import { Secret } from "@bureau/kit/secret";
import { silentLog } from "@bureau/os/testing/silent-log";
import { parseServerName, type ServerName } from "@bureau/schema/refs";

export type EmbeddedHomeserver = AsyncDisposable & {
  readonly url: string;
  readonly serverName: ServerName;
  readonly registrationToken: string;
};

export async function startEmbeddedHomeserver(): Promise<EmbeddedHomeserver> {
  const dataDir = mkdtempSync(join(tmpdir(), "bureau-hs-"));
  // As long as the tokens that Bureau makes: passwords that follow from a shorter one are hashed slowly.
  const registrationToken = "a-token-for-tests-of-32-characters";
  const homeserver = await startHomeserver(
    {
      dataDir,
      serverName: "bureau.local",
      listen: [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }],
      registrationToken: new Secret(registrationToken),
    },
    { log: silentLog, clock: systemClock },
  );
  return {
    url: homeserver.url,
    serverName: parseServerName("bureau.local"),
    registrationToken,
    async [Symbol.asyncDispose]() {
      await homeserver[Symbol.asyncDispose]();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
