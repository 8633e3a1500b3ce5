/** A homeserver over a data folder of the test, on a free port. A second one over the same folder continues the first. */
import { type Clock, systemClock } from "@bureau/kit/clock";
import { Secret } from "@bureau/kit/secret";
import { silentLog } from "@bureau/os/testing/silent-log";
import { startHomeserver } from "../homeserver.ts";

const registrationToken = "tok";
const serverName = "bureau.local";

export type TestServer = {
  readonly url: string;
  readonly serverName: string;
  readonly registrationToken: string;
  readonly stop: () => Promise<void>;
};

export async function startTestServer(dataDir: string, clock: Clock = systemClock): Promise<TestServer> {
  const homeserver = await startHomeserver(
    {
      dataDir,
      serverName,
      listen: [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }],
      registrationToken: new Secret(registrationToken),
    },
    { log: silentLog, clock },
  );
  const stop = async (): Promise<void> => await homeserver[Symbol.asyncDispose]();
  return { url: homeserver.url, serverName, registrationToken, stop };
}
