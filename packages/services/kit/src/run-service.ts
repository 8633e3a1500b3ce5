/**
 * The life of a service, the same for each: environment, session through the proxy, the fleet's service room, socket,
 * announcement, /sync until SIGTERM, withdrawal. It listens before it announces itself, so that a reader of the
 * announcement can connect.
 *
 * An outage of the homeserver is waited out, and the socket answers meanwhile from what was known before. A refusal ends
 * the program; the daemon starts it again.
 */
import { roomOf } from "@bureau/control/rooms/places";
import { openProxySession } from "@bureau/in-sandbox/proxy-session";
import { retry } from "@bureau/kit/backoff";
import { systemClock } from "@bureau/kit/clock";
import { messageOf } from "@bureau/kit/errors";
import { logRateLimitWaits } from "@bureau/kit/rate-limit";
import type { Runtime } from "@bureau/kit/runtime";
import { isTransient } from "@bureau/matrix/matrix-error";
import { RoomStateStore, type RoomStates } from "@bureau/matrix/room-state";
import type { MatrixSession } from "@bureau/matrix/session";
import { runSyncLoop } from "@bureau/matrix/sync-loop";
import { type Action, action, serveCbor } from "@bureau/os/cbor-server";
import { aborted, exitCodes, type ProgramContext, runProgram } from "@bureau/os/lifecycle";
import { eventTypes } from "@bureau/schema/events";
import { namespaceOf, type RoomId, rooms } from "@bureau/schema/refs";
import { object } from "valibot";
import { AcceptedInvitations } from "./accepted-invitations.ts";
import { announce, type Offer, withdraw } from "./announcement.ts";
import { type ServiceIdentity, serviceIdentity } from "./service-identity.ts";
import { TokenGate } from "./token-gate.ts";

/** Operators reach the socket by their group (wire facts, section 6.1). */
const SOCKET_MODE = 0o770;
/** Time for requests under way when the service stops. */
const DRAIN_MS_MAX = 2_000;

export type ServiceContext = Runtime & {
  readonly identity: ServiceIdentity;
  readonly session: MatrixSession;
  /** The fleet's service room. */
  readonly serviceRoom: RoomId;
  /** The rooms the service is in, as /sync shows them. */
  readonly states: RoomStates;
  /** Makes an action that needs a grant; see {@link TokenGate.granted}. */
  readonly granted: TokenGate["granted"];
};

export type ServiceDefinition = {
  /** The program's name. */
  readonly program: string;
  /** The role that it serves: the audience of its callers' tokens. */
  readonly role: string;
  readonly offer: Offer;
  /** Types of state events to follow. Power levels and creations come with them: they decide which events count. */
  readonly follows: readonly string[];
  /** What its socket answers, besides `health` and `revoke-tokens`. */
  readonly actions: (context: ServiceContext) => Readonly<Record<string, Action>>;
};

/** Runs the program of a service to its end. */
export const runService = (definition: ServiceDefinition): Promise<never> =>
  runProgram(definition.program, (program) => serve(definition, program));

async function serve(definition: ServiceDefinition, { log, signal }: ProgramContext): Promise<number> {
  const runtime: Runtime = { clock: systemClock, random: Math.random, log };
  logRateLimitWaits(log);
  const identity = serviceIdentity(process.env);
  const patiently = patienceOf(runtime, signal);
  const onIgnored = (sentence: string): void => log.warn("event.ignored", sentence);
  const session = await patiently(() => openProxySession({ signal, onIgnored }));
  const serviceRoom = await patiently(() => roomOf(session, rooms.fleetServices(identity.fleet)));
  const systemRoom = await patiently(() => roomOf(session, rooms.system(namespaceOf(identity.fleet))));
  const states = new RoomStateStore(onIgnored);
  const { role } = definition;
  const gate = new TokenGate({ role, machine: identity.machine, systemRoom, states, clock: systemClock });
  let disconnected: string | undefined = "the first sync is not done";
  const granted = gate.granted.bind(gate);
  const context: ServiceContext = { ...runtime, identity, session, serviceRoom, states, granted };
  const health = action(object({}), async () =>
    disconnected === undefined ? { healthy: true } : { healthy: false, reason: disconnected },
  );
  await using server = await serveCbor({
    listen: { path: identity.socket, mode: SOCKET_MODE },
    actions: { ...definition.actions(context), health, "revoke-tokens": gate.revokeTokens },
    log,
  });
  await patiently(() => announce(session, serviceRoom, identity, definition.offer));
  log.info("service.started", "service started", { user: session.userId, socket: identity.socket });
  const invitations = new AcceptedInvitations(session, definition, log);
  await runSyncLoop({
    ...runtime,
    session,
    signal,
    filter: filterOf(definition.follows),
    onSync(response) {
      states.apply(response);
      invitations.accept(response);
    },
    onConnection(connected, error) {
      disconnected = connected ? undefined : messageOf(error);
      if (!connected) log.warn("sync.failed", "cannot sync; trying again", { error });
    },
  });
  await aborted(signal);
  await withdraw(session, serviceRoom).catch((error: unknown) =>
    log.warn("service.not-withdrawn", "cannot withdraw the announcement", { error }),
  );
  await server.drain(DRAIN_MS_MAX);
  return exitCodes.ok;
}

/** Repeats an act until the homeserver answers it. */
const patienceOf =
  ({ clock, random, log }: Runtime, signal: AbortSignal) =>
  <T>(act: () => Promise<T>): Promise<T> =>
    retry(act, {
      clock,
      random,
      signal,
      isTransient,
      onRetry: (error, waitMs) =>
        log.warn("service.waiting", "waiting for the homeserver", { error, waitMs }),
    });

/** A filter of /sync: state of these types, in every room. */
function filterOf(follows: readonly string[]): unknown {
  const own = [eventTypes.powerLevels, "m.room.create", "m.room.redaction", eventTypes.tokenSigningKey];
  const types = [...own, ...follows];
  const nothing = { not_types: ["*"] };
  return {
    presence: nothing,
    account_data: nothing,
    room: { state: { types }, timeline: { types }, ephemeral: nothing, account_data: nothing },
  };
}
