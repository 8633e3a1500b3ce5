/** The machine's own session at its homeserver. */
import { BureauError } from "@bureau/kit/errors";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { machineSessionFile } from "@bureau/os/layout";
import { readMachineSession } from "@bureau/os/session-file";
import { type UserId, userIdOf } from "@bureau/schema/refs";
import type { DaemonConfig } from "./daemon-config.ts";

/** The address on the command line wins over the one in the file. @throws BureauError when it is another machine's */
export function openMachineSession(config: DaemonConfig): {
  readonly session: MatrixSession;
  readonly userId: UserId;
} {
  const stored = readMachineSession(machineSessionFile(config.layout));
  const homeserver = config.homeserverUrl === "" ? stored.homeserver : config.homeserverUrl;
  const userId = userIdOf(config.machine, config.serverName);
  if (stored.userId !== userId)
    throw new BureauError(
      "invalid-input",
      `The session "${machineSessionFile(config.layout)}" is of ${stored.userId}, but this machine is ${userId}`,
      {
        hint: "start the launcher with the same --machine-name and --server-name, and an empty state folder",
      },
    );
  return {
    session: new MatrixSession({ homeserver, fetch: egressFetch, userId, token: stored.token }),
    userId,
  };
}
