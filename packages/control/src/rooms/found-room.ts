/**
 * Checks an existing room under one of our aliases. A stranger may have claimed the alias first, so a room counts as ours
 * only when an administrator made it and we hold full power there. Raises levels that are lower than its kind requires.
 */
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { StateEvent } from "@bureau/matrix/event";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, PowerLevelsSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { ADMIN_LEVEL, type PowerEvents, powerIn } from "@bureau/schema/power";
import {
  aliasOf,
  type Localpart,
  namespaceOfRoom,
  type RoomId,
  rooms,
  serverOf,
  type UserId,
} from "@bureau/schema/refs";
import { missingLevels, type RoomKind } from "./room-catalogue.ts";

export type FoundUnder = {
  readonly room: RoomId;
  readonly kind: RoomKind;
  readonly localpart: Localpart;
};

/** Called with a description of each change. */
export type Note = (sentence: string) => void;

/**
 * The state of the room, in one request.
 * @throws BureauError `conflict` when the room is a stranger's
 */
export async function stateOfOurs(session: MatrixSession, found: FoundUnder): Promise<StateEvent[]> {
  let state: StateEvent[];
  try {
    state = await session.getRoomState(found.room);
  } catch (error) {
    if (error instanceof MatrixError && error.code === "forbidden")
      throw taken(session, found, `${session.userId} is not in it`, error);
    throw error;
  }
  await requireOurs(session, found, powerEventsIn(state));
  return state;
}

const eventIn = (state: readonly StateEvent[], type: string): StateEvent | undefined =>
  state.find((event) => event.type === type && event.stateKey === "");

const powerEventsIn = (state: readonly StateEvent[]): PowerEvents => ({
  levels: eventIn(state, eventTypes.powerLevels)?.content,
  create: eventIn(state, "m.room.create"),
});

/** Raises levels that are lower than the room's kind requires, and gives `users` their levels, in one write. */
export async function completeLevels(
  session: MatrixSession,
  found: FoundUnder,
  state: readonly StateEvent[],
  note: Note,
  users: Readonly<Record<UserId, number>> = {},
): Promise<void> {
  const standing = parse(PowerLevelsSchema, powerEventsIn(state).levels ?? {}, "power levels");
  const lacking = missingLevels(found.kind, standing);
  if (lacking === undefined && Object.keys(users).length === 0) return;
  await changePowerLevels(session, found.room, { ...lacking, users }, { clock: systemClock });
  if (lacking !== undefined) note(`raised the power levels of ${found.localpart}`);
}

async function requireOurs(session: MatrixSession, found: FoundUnder, power: PowerEvents): Promise<void> {
  if (!(powerIn(power)(session.userId) >= ADMIN_LEVEL))
    throw taken(session, found, `${session.userId} does not hold full power there`);
  const maker = power.create?.sender ?? "";
  if (maker === session.userId) return;
  if (!(await isAdministrator(session, found, power, maker)))
    throw taken(
      session,
      found,
      `its creator ${maker === "" ? "is unknown" : `${maker} is not an administrator`}`,
    );
}

/** Whether another user has full power in the namespace's space, which makes that user an administrator. */
async function isAdministrator(
  session: MatrixSession,
  found: FoundUnder,
  power: PowerEvents,
  user: string,
): Promise<boolean> {
  const namespace = namespaceOfRoom(found.localpart);
  // Machines and principals have their names from the namespace, and make none of its rooms.
  if (user.startsWith(`@${namespace}/`)) return false;
  if (found.kind === "space") return powerIn(power)(user) >= ADMIN_LEVEL;
  const space = await session.resolveAlias(aliasOf(rooms.space(namespace), serverOf(session.userId)));
  if (space === undefined) return false;
  const inSpace = await session.powerEvents(space).catch((error: unknown) => {
    // A space that we may not read confirms no administrator.
    if (error instanceof MatrixError && error.code === "forbidden") return undefined;
    throw error;
  });
  return inSpace !== undefined && powerIn(inSpace)(user) >= ADMIN_LEVEL;
}

function taken(session: MatrixSession, found: FoundUnder, why: string, cause?: unknown): BureauError {
  const alias = aliasOf(found.localpart, serverOf(session.userId));
  return new BureauError("conflict", `The alias "${alias}" is taken by the room ${found.room}: ${why}`, {
    ...(cause === undefined ? {} : { cause }),
    hint: `if another administrator set up "${namespaceOfRoom(found.localpart)}", act as that one (--credential-file PATH, or --admin-user NAME of bureau matrix setup); if it is a stranger's room, its maker or an admin of the homeserver removes the alias: DELETE /_matrix/client/v3/directory/room/${encodeURIComponent(alias)}; then run this again`,
  });
}
