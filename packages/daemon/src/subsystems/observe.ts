/** observe.sock: what operators ask this machine. */
import { inTime } from "@bureau/kit/wait-for";
import { observeSocket, socketNames } from "@bureau/os/layout";
import { Streams } from "@bureau/os/streams";
import { subsystem } from "../assembly/subsystem.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import type { MachineConnection } from "../machine-connection.ts";
import { machineReport } from "../machine-report.ts";
import { observeActions } from "../observe/observe-actions.ts";
import { serveObserve } from "../observe/observe-server.ts";
import { createTokenVerifier } from "../observe/token-verifier.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import { operatorToken } from "../services/operator-token.ts";
import type { Authorization } from "./authorization.ts";
import type { LauncherPart } from "./launcher.ts";
import type { Readiness } from "./readiness.ts";
import type { Refusals } from "./refusals.ts";
import type { Rooms } from "./rooms.ts";
import type { Services } from "./services.ts";

/** A request to a daemon that has just started waits this long for it to know what runs, and what should. */
const FIRST_LOOK_MS_MAX = 5_000;
const FIRST_SYNC_MS_MAX = 5_000;
const HAND_OVER_MS_MAX = 2_000;

type Needs = {
  readonly rooms: Rooms;
  readonly desired: DesiredSource;
  readonly launcher: LauncherPart;
  readonly reconcile: Reconciler;
  readonly authorization: Authorization;
  readonly connection: MachineConnection;
  readonly readiness: Readiness;
  readonly services: Services;
  readonly refusals: Refusals;
};

export const observe = subsystem({
  name: "observe",
  needs: {
    rooms: true,
    desired: true,
    launcher: true,
    reconcile: true,
    authorization: true,
    connection: true,
    readiness: true,
    services: true,
    refusals: true,
  },
  async start(
    { rooms, desired, launcher, reconcile, authorization, connection, readiness, services, refusals }: Needs,
    context,
  ) {
    const { config, session, userId, userOf, inherited, viewsOf, clock, log } = context;
    const startedAt = clock.now();
    const actions = observeActions({
      machine: config.machine,
      machineUser: userId,
      launcher: launcher.client,
      async report() {
        await inTime(reconcile.hasLooked, FIRST_LOOK_MS_MAX);
        return machineReport(config, userId, startedAt, {
          connection: connection.state,
          view: reconcile.view,
          fleetCache: rooms.fleetCache(),
          faults: desired.faults,
        });
      },
      ready: () => inTime(readiness.ready, FIRST_SYNC_MS_MAX),
      ...authorization,
      collectRefusals: refusals.collect,
      levelOf: (user) => rooms.config()?.levelOf(user) ?? 0,
      userOf,
      viewsOf,
      serviceToken: (actor, role) => {
        const deps = { ...services, enforce: authorization.enforce };
        return operatorToken(deps, actor, role);
      },
      tokens: createTokenVerifier(session.homeserver, userId, clock),
    });
    const streams = new Streams({ protocols: {}, inherited: inherited.streams, log });
    const passed = inherited.sockets.get(socketNames.observe);
    const listen = passed ?? { path: observeSocket(config.layout), mode: 0o660 };
    const server = await serveObserve({ listen, actions, streams, log });
    return {
      part: undefined,
      // Once every subsystem has started, so that a protocol finds what it needs.
      loops: [async () => streams.adopt()],
      handOver: {
        async give() {
          const socket = await server.handOver(HAND_OVER_MS_MAX);
          if (socket === undefined) return "requests were under way for too long";
          return {
            sockets: [{ fd: socket.fd, name: socketNames.observe, isOurs: passed?.isOurs ?? true }],
          };
        },
        streams: () => streams.handOver(),
        resume: () => server.resume(),
      },
      async stop() {
        streams[Symbol.dispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  },
});
