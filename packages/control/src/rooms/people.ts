/**
 * The people of a namespace: accounts that persons log in to, and the rooms they are in. An operator is in every room of the
 * namespace, its fleets and their machines, with the administrator's power.
 */
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { login, registerWithToken } from "@bureau/matrix/auth";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import type { Account, ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { PrincipalUserSchema } from "@bureau/schema/events";
import {
  type Localpart,
  localpartOf,
  type MachineLocalpart,
  type Namespace,
  parseUserId,
  type RoomId,
  rooms,
  serverOf,
  type UserId,
} from "@bureau/schema/refs";
import { safeParse } from "valibot";
import type { Editor } from "../editor.ts";
import { listMachines } from "../machines/list-machines.ts";
import type { AccountKeys } from "../machines/machine-agents.ts";
import { configPlace } from "../machines/machine-config.ts";
import { isMember, membershipOf, ownRooms } from "./machine-rooms.ts";
import { letObserve } from "./operator-policy.ts";
import { listFleets, roomOf } from "./places.ts";

/** Characters of a person's name; a name with a slash is a place in a namespace. */
const PERSON = /^[a-z0-9._=-]{1,100}$/;
const OPERATOR_LEVEL = 100;

/** `alice` at the homeserver of `session`, or a whole user ID. @throws BureauError `invalid-input` */
export function personOf(session: MatrixSession, typed: string): UserId {
  if (typed.startsWith("@")) return parseUserId(typed);
  if (PERSON.test(typed)) return parseUserId(`@${typed}:${serverOf(session.userId)}`);
  throw new BureauError("invalid-input", `"${typed}" is not a person's name`, {
    hint: "lower-case letters, digits and . _ = - ; names with a slash are those of machines and agents",
  });
}

export type CreatePerson = {
  readonly session: MatrixSession;
  readonly user: UserId;
  readonly password: string;
  /** To register with; without them a server admin makes the account. */
  readonly keys: AccountKeys | undefined;
  readonly admin: ServerAdmin;
};

/**
 * Makes the account. Returns a session of it; the caller logs it out.
 * @throws BureauError `conflict` when it exists, `forbidden` when no available token may create it
 */
export async function createPerson(options: CreatePerson): Promise<MatrixSession> {
  const { session, user, password, keys, admin } = options;
  const { server } = session;
  const username = user.slice(1, user.indexOf(":"));
  if (keys !== undefined) {
    const { registrationToken } = keys;
    const made = await registerWithToken({ ...server, username, password, registrationToken }).catch(
      (error: unknown) => {
        // Where registering is closed, a server admin may still make accounts.
        if (error instanceof MatrixError && error.status >= 400 && error.status < 500) return error;
        throw error;
      },
    );
    if (!(made instanceof MatrixError)) {
      if (made.inUse) throw inUse(user);
      return new MatrixSession({ ...server, userId: made.userId, token: made.token });
    }
  }
  const state = await admin.accountState(user);
  if (state === "active" || state === "deactivated") throw inUse(user);
  const answer = state === "missing" ? await admin.createAccount(user, password) : state;
  if (answer.kind === "refused")
    throw new BureauError("forbidden", `Cannot make the account "${user}": ${answer.reason}`, {
      hint: "--credential-file PATH, which holds the registration token; or --admin-token-file PATH of a server admin",
    });
  const { token } = await login({ ...server, user: username, password });
  return new MatrixSession({ ...server, userId: user, token });
}

const inUse = (user: UserId): BureauError =>
  new BureauError("conflict", `There is an account "${user}" already`, {
    hint: `bureau matrix user invite ${user}`,
  });

/** Checks a name before the invitation: a homeserver accepts a mistyped name as a future user. */
export async function requireAccounts(session: MatrixSession, users: readonly UserId[]): Promise<void> {
  for (const user of users) {
    if (!(await session.isMissing(user))) continue;
    throw new BureauError("not-found", `There is no account "${user}"`, {
      hint: `bureau matrix user list shows the accounts; bureau matrix user create ${localpartOf(user)} makes one`,
    });
  }
}

/** The rooms that a person is in: those where people meet, or all of them for an operator. */
export async function personRooms(
  session: MatrixSession,
  namespace: Namespace,
  isOperator: boolean,
): Promise<RoomId[]> {
  const common: Localpart[] = [rooms.space(namespace), rooms.lobby(namespace)];
  if (!isOperator) return Promise.all(common.map((place) => roomOf(session, place)));
  const places = [
    ...common,
    ...[rooms.dev, rooms.system, rooms.template, rooms.pipeline, rooms.artifact].map((of) => of(namespace)),
  ];
  for (const { fleet } of await listFleets(session, namespace)) {
    places.push(rooms.fleet(fleet), rooms.fleetMachines(fleet), rooms.fleetServices(fleet));
    for (const { name } of await listMachines(session, fleet))
      places.push(...ownRooms(name as MachineLocalpart).map(({ localpart }) => localpart));
  }
  return Promise.all(places.map((place) => roomOf(session, place)));
}

/** Invites a person where it is not yet, and gives an operator its power. Returns the rooms it was invited to. */
export async function invitePerson(
  session: MatrixSession,
  user: UserId,
  places: readonly RoomId[],
  isOperator: boolean,
): Promise<RoomId[]> {
  const invited: RoomId[] = [];
  for (const room of places) {
    if (isOperator)
      await changePowerLevels(session, room, { users: { [user]: OPERATOR_LEVEL } }, { clock: systemClock });
    if (isMember(await membershipOf(session, room, user))) continue;
    await session.inviteUser(room, user);
    invited.push(room);
  }
  return invited;
}

/** Lets an operator observe the principals of every machine of the namespace. */
export async function letOperatorObserve(editor: Editor, namespace: Namespace, user: UserId): Promise<void> {
  const { session } = editor;
  for (const { fleet } of await listFleets(session, namespace))
    for (const { name } of await listMachines(session, fleet))
      await letObserve(editor, await configPlace(session, name as MachineLocalpart), user);
}

/**
 * The accounts that can log in, without machines and agents. Without a server admin: the members of the namespace's space,
 * by user ID alone.
 */
export async function listPeople(
  session: MatrixSession,
  namespace: Namespace,
  admin: ServerAdmin,
): Promise<readonly (Pick<Account, "userId"> & Partial<Account>)[]> {
  const accounts = await admin.accounts();
  const known =
    "kind" in accounts
      ? (await session.joinedMembers(await roomOf(session, rooms.space(namespace)))).map((userId) => ({
          userId,
        }))
      : accounts;
  return known.filter(({ userId }) => !safeParse(PrincipalUserSchema, userId).success);
}
