/** Tells the machine's daemon on observe.sock that this proxy has refused something. */
import type { Log } from "@bureau/kit/log";
import type { PrincipalName } from "@bureau/schema/refs";

/** Never throws and never waits. A daemon that is away asks every proxy when it starts. */
export function pokeDaemon(socket: string, principal: PrincipalName, log: Log): void {
  Bun.connect({
    unix: socket,
    socket: {
      open: (connection) => void connection.end(`${JSON.stringify({ action: "refused", principal })}\n`),
      data: () => {},
      error: () => {},
    },
  }).catch((error: unknown) =>
    log.debug("refusals.daemon-away", "cannot tell the daemon of a refusal; it asks when it starts", {
      error,
    }),
  );
}
