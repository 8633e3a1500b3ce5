/** The greeter: the first agent of an instance. Its message proves that everything works from room to sandbox. */
import { configPlace, readAssignments } from "@bureau/control/machines/machine-config";
import type { Credentials } from "@bureau/control/principals/administrator";
import { createPrincipal } from "@bureau/control/principals/principals";
import type { NamespaceRooms } from "@bureau/control/rooms/namespace-setup";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import type { MatrixSession } from "@bureau/matrix/session";
import { machineReport } from "@bureau/os/daemon-client";
import { takeTurn } from "@bureau/os/turn";
import { eventTypes } from "@bureau/schema/events";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { principalLocalpart, rooms, serverOf, stateKeyOf, type UserId, userIdOf } from "@bureau/schema/refs";
import type { Instance } from "./instance.ts";

/** Its start takes a second; longer on a busy machine. */
const SPEAK_MS_MAX = 60_000;
/** Number of lobby messages to search for the agent's message. */
const PAGE_EVENTS = 100;
const PAGES_MAX = 50;

/** The greeter's user ID; made on the first run. Undefined when an operator destroyed it: it stays destroyed. */
export async function ensureGreeter(
  session: MatrixSession,
  credentials: Credentials,
  instance: Instance,
  made: NamespaceRooms,
): Promise<UserId | undefined> {
  const principal = principalLocalpart(instance.fleet, "agent/greeter");
  const user = userIdOf(principal, serverOf(session.userId));
  const place = await configPlace(session, instance.machine);
  const { assignments } = await readAssignments(session, place);
  if (assignments.some((assignment) => assignment.principal === user)) return user;
  // A destroyed greeter stays destroyed. Without any message it was not destroyed: an earlier `bureau up` was interrupted
  // while it created the agent.
  const credentialsEvent = await session.getState(place.room, eventTypes.credentials, stateKeyOf(user));
  if (credentialsEvent !== undefined && (await saidSince(session, made, user, 0)) !== undefined)
    return undefined;
  await createPrincipal({
    session,
    takeTurn,
    registrationToken: credentials.registrationToken,
    homeserver: instance.homeserverUrl,
    machine: instance.machine,
    principal,
    joins: [made.lobby],
    assignment: {
      template: `${rooms.template(instance.namespace)}:greeter`,
      auto_start: true,
      payload: { room: made.lobby },
    },
  });
  return user;
}

/**
 * The last message of the greeter since it was started; only the greeter can have written it, through its own proxy.
 * @throws BureauError `timeout`
 */
export async function waitForGreeting(
  session: MatrixSession,
  instance: Instance,
  made: NamespaceRooms,
  greeter: UserId,
  clock: Clock,
): Promise<string> {
  const spoken = await waitFor(
    async () => {
      const startedAt = await runningSince(instance, greeter);
      return startedAt === undefined ? undefined : saidSince(session, made, greeter, startedAt);
    },
    { timeoutMs: SPEAK_MS_MAX, clock },
  );
  if (spoken !== undefined) return spoken.split("\n")[0] ?? "";
  const state = await machineReport(instance.layout).then(
    (report) => JSON.stringify(ofGreeter(report, greeter)),
    (error: unknown) => messageOf(error),
  );
  throw new BureauError("timeout", `The greeter did not speak within ${SPEAK_MS_MAX / 1000} s: ${state}`, {
    hint: "bureau agent logs greeter",
  });
}

const ofGreeter = (report: MachineReport, greeter: UserId) =>
  report.principals.find(({ user_id }) => user_id === greeter);

async function runningSince(instance: Instance, greeter: UserId): Promise<number | undefined> {
  const found = ofGreeter(await machineReport(instance.layout), greeter);
  return found?.state === "running" ? found.started_at : undefined;
}

async function saidSince(
  session: MatrixSession,
  { lobby }: NamespaceRooms,
  greeter: UserId,
  startedAt: number,
): Promise<string | undefined> {
  // Others may have written many messages since; and a homeserver may ignore the filter.
  for (let from: string | undefined, page = 0; page < PAGES_MAX; page++) {
    const { chunk, end } = await session.messages(lobby, {
      dir: "b",
      limit: PAGE_EVENTS,
      types: ["m.room.message"],
      senders: [greeter],
      ...(from === undefined ? {} : { from }),
    });
    const since = chunk.filter((event) => Number(event["origin_server_ts"]) >= startedAt);
    const said = since.find((event) => event["sender"] === greeter && event["type"] === "m.room.message");
    const content = said?.["content"] as { body?: unknown } | undefined;
    if (typeof content?.body === "string") return content.body;
    if (since.length < chunk.length || end === undefined || end === from) return undefined;
    from = end;
  }
  return undefined;
}
