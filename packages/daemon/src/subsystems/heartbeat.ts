/** The machine's sign of life and its presence, while it is in its rooms. */
import type { Log } from "@bureau/kit/log";
import type { MatrixSession } from "@bureau/matrix/session";
import { loopAfter } from "../assembly/loop-after.ts";
import { subsystem } from "../assembly/subsystem.ts";
import { runHeartbeat } from "../heartbeat/heartbeat.ts";
import { type Facts, publishFacts } from "../heartbeat/publish-facts.ts";
import type { MachineConnection } from "../machine-connection.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import type { Audit } from "./audit.ts";

/** For telling the homeserver that the machine goes offline (wire facts, section 12.1). */
const PRESENCE_MS_MAX = 5_000;

type Needs = {
  readonly facts: Facts;
  readonly reconcile: Reconciler;
  readonly connection: MachineConnection;
  readonly audit: Audit;
};

export const heartbeat = subsystem({
  name: "heartbeat",
  needs: { facts: true, reconcile: true, connection: true, audit: true },
  start(
    { facts, reconcile, connection, audit }: Needs,
    { config, session, userId, userOf, hub, clock, log },
  ) {
    const joined = hub.next("rooms.joined");
    return {
      part: undefined,
      loops: [
        loopAfter(joined, async (rooms, signal) => {
          void setPresence(session, log, "online");
          await runHeartbeat(
            {
              session,
              machine: userId,
              rooms,
              intervalMs: config.statusIntervalMs,
              sandboxes: () => reconcile.view.sandboxes,
              userOf,
              auditHead: audit.sentHead,
              publishFacts: () => publishFacts(facts, rooms),
              clock,
              log,
            },
            signal,
          );
        }),
      ],
      async stop() {
        if (connection.state.kind === "online") await setPresence(session, log, "offline");
      },
    };
  },
});

/** Never rejects: presence is a courtesy. */
async function setPresence(session: MatrixSession, log: Log, presence: "online" | "offline"): Promise<void> {
  const options = presence === "online" ? {} : { message: "shutting down", timeoutMs: PRESENCE_MS_MAX };
  await session
    .setPresence(presence, options)
    .catch((error: unknown) => log.debug("presence.failed", "cannot set presence", { error }));
}
