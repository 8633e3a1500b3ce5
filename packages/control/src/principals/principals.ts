/**
 * Creates and destroys principals. The order of creation is the wire's (section 10.7): check the template and the room in the
 * configuration, make the account, rooms, sealed credentials, and last the assignment, so that the machine never reads an
 * assignment that it cannot start. Interrupted anywhere, the same command does what is left. Requests that do not depend on
 * each other are made at once.
 */
import { systemClock, timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { instead } from "@bureau/kit/nearest";
import type { Granted } from "@bureau/matrix/auth";
import { MatrixError } from "@bureau/matrix/matrix-error";
import type { RateLimit, ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { type CredentialsSchema, eventTypes, type PrincipalAssignment } from "@bureau/schema/events";
import { socketOf } from "@bureau/schema/homeserver-address";
import {
  aliasOf,
  fleetOf,
  type MachineLocalpart,
  namespaceOf,
  type PrincipalLocalpart,
  parseStateRef,
  principalNameOf,
  principalOfUser,
  principalType,
  type RoomAlias,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import type { InferInput } from "valibot";
import { allInOrder } from "../all-in-order.ts";
import { dropKeys, provisionKeys } from "../credentials/credential-keys.ts";
import { machineRecipient, seal } from "../credentials/seal.ts";
import { type Editor, turnIsHeld } from "../editor.ts";
import type { ConfigPlace } from "../machines/config-parts.ts";
import { type AccountKeys, closeAgentAccount } from "../machines/machine-agents.ts";
import {
  configPlace,
  editAssignment,
  isAssignedIn,
  planAssignment,
  readAssignments,
  writeAssignment,
} from "../machines/machine-config.ts";
import { inviteUnlessThere } from "../machines/provision.ts";
import { roomOf } from "../rooms/places.ts";
import { noRoomMemory, type RoomMemory } from "../rooms/room-memory.ts";
import { RoomSnapshot } from "../rooms/room-snapshot.ts";
import { requireTemplate } from "../templates/template-store.ts";
import { logInTo, principalPassword, registerAccount } from "./administrator.ts";

/** Enough for a busy agent; a stock homeserver's limit is meant for a person who types. Still a limit against floods. */
const RATE_LIMIT: RateLimit = { perSecond: 10, burst: 100 };

export type CreatePrincipal = Editor & {
  readonly registrationToken: string;
  readonly homeserver: string;
  readonly machine: MachineLocalpart;
  readonly principal: PrincipalLocalpart;
  /** All of the assignment but its principal. */
  readonly assignment: Omit<PrincipalAssignment, "principal">;
  /** Rooms it joins. By default the machine's config room is not among them (decision 31). */
  readonly joins: readonly (RoomId | RoomAlias)[] | Promise<readonly (RoomId | RoomAlias)[]>;
  /** Saves the look-ups of aliases. */
  readonly memory?: RoomMemory;
  /** Log in again and seal the new token, even when the principal has credentials. */
  readonly newCredentials?: boolean;
  /** The server admin that may lift its rate limit. */
  readonly admin?: ServerAdmin;
  /**
   * Further credentials: in its bundle when that is sealed now, else beside it (credentials/credential-keys). A principal
   * that exists keeps its others.
   */
  readonly credentials?: Readonly<Record<string, string>>;
  /** Public age keys that open what is sealed, besides the machine's. */
  readonly escrowKeys?: readonly string[];
};

/**
 * Creates a principal, or changes the assignment of an existing one. An existing principal keeps its credentials without
 * `newCredentials`, and so keeps running when only its payload changed. Returns its user ID, and when the assignment was
 * written (milliseconds since the epoch); `sentAt` is undefined when it was there already.
 * @throws BureauError `not-found` for an unknown template or machine, and for a machine without a key; `too-large` when the
 * machine has no room for it
 */
export async function createPrincipal(
  options: CreatePrincipal,
): Promise<{ readonly user: UserId; readonly sentAt: number | undefined }> {
  const { session, machine, principal } = options;
  const server = serverOf(session.userId);
  const user = userIdOf(principal, server);
  const assignment = { ...options.assignment, principal: user };
  const { template } = assignment;
  const named = await options.joins;
  const snapshot = await readRooms(options, named);
  const found = configPlace(session, machine, snapshot);
  // All that can refuse comes before anything is made.
  const machines = aliasOf(rooms.fleetMachines(fleetOf(machine)), server);
  const recipient = inBackground(
    snapshot.roomOf(machines).then((room) => machineRecipient(session, machine, room)),
  );
  const [joins, , place, plan] = await allInOrder([
    Promise.all(named.map((room) => (isAlias(room) ? snapshot.roomOf(room) : room))),
    template === "" ? undefined : requireTemplate(session, template, snapshot),
    found,
    found.then((at) => planAssignment(snapshot, at, assignment)),
  ]);
  const isEquipped = async (): Promise<boolean> =>
    options.newCredentials !== true && (await hasCredentials(session, place, user));
  // Only the account of a principal that is not assigned can be new: its homeserver says so.
  const sealed =
    isAssignedIn(plan, user) && (await isEquipped())
      ? undefined
      : await equip(options, joins, await recipient, isEquipped);
  const putCredentials = async (): Promise<void> => {
    const { credentials = {}, escrowKeys = [] } = options;
    // `writeAssignment` holds the turn.
    const owner = { session, machine, principal, takeTurn: turnIsHeld };
    if (sealed === undefined) {
      if (Object.keys(credentials).length > 0) await provisionKeys(owner, credentials, escrowKeys);
      return;
    }
    await session.putState(place.room, eventTypes.credentials, stateKeyOf(user), sealed.content);
    if (!sealed.isNew) await dropKeys(owner, sealed.content.keys ?? []);
  };
  const { sentAt } = await writeAssignment(options, place, assignment, plan, putCredentials);
  return { user, sentAt };
}

/** What is read before anything is made: the machine's configuration, and the templates of the assignment's room. */
async function readRooms(
  { session, machine, assignment, memory = noRoomMemory }: CreatePrincipal,
  joins: readonly (RoomId | RoomAlias)[],
): Promise<RoomSnapshot> {
  const server = serverOf(session.userId);
  const { template } = assignment;
  const { room, server: at } = template === "" ? {} : parseStateRef(template);
  const aliases = [
    aliasOf(rooms.config(machine), server),
    aliasOf(rooms.fleetMachines(fleetOf(machine)), server),
    ...(room === undefined ? [] : [aliasOf(room, at ?? server)]),
    ...joins.filter(isAlias),
  ];
  const types = [eventTypes.machineConfig, eventTypes.machineConfigPage, eventTypes.template];
  return await RoomSnapshot.take(session, aliases, types, memory);
}

const isAlias = (room: RoomId | RoomAlias): room is RoomAlias => room.startsWith("#");

/** A request that may turn out not to be needed: its error counts only where it is awaited. */
function inBackground<T>(asked: Promise<T>): Promise<T> {
  asked.catch(() => {});
  return asked;
}

/** Credentials are written after account and rooms: where there are some, only the assignment may be missing. */
async function hasCredentials(session: MatrixSession, place: ConfigPlace, user: UserId): Promise<boolean> {
  const sealed = await session.getState(place.room, eventTypes.credentials, stateKeyOf(user));
  return typeof sealed === "object" && sealed !== null && Object.keys(sealed).length > 0;
}

/**
 * Makes the account, lets it into its rooms, and returns its credentials, sealed to the machine's key; undefined when an
 * account that exists is equipped. `isNew`: the account is.
 */
async function equip(
  options: CreatePrincipal,
  joins: readonly RoomId[],
  recipient: string,
  isEquipped: () => Promise<boolean>,
): Promise<{ readonly content: SealedBundle; readonly isNew: boolean } | undefined> {
  const { session, machine, principal } = options;
  const keys = {
    homeserver: options.homeserver,
    fetch: session.server.fetch,
    registrationToken: options.registrationToken,
    username: principal,
    password: principalPassword(principal, options.registrationToken),
  };
  const registered = await registerAccount(keys);
  if (registered.inUse && (await isEquipped())) return undefined;
  const account = { isNew: !registered.inUse, ...(registered.inUse ? await logInTo(keys) : registered) };
  const isService = principalType(principalNameOf(principal)) === "service";
  const [content] = await allInOrder([
    sealedCredentials(options, account, recipient),
    enterRooms(options, account, joins),
    isService ? inviteToServiceRooms(session, machine, account.userId) : undefined,
  ]);
  return { content, isNew: account.isNew };
}

/** It is invited while its rate limit is lifted; it joins after that. */
async function enterRooms(
  { session, homeserver, admin }: CreatePrincipal,
  account: Granted & { readonly isNew: boolean },
  joins: readonly RoomId[],
): Promise<void> {
  const own = new MatrixSession({
    homeserver,
    fetch: session.server.fetch,
    userId: account.userId,
    token: account.token,
  });
  const invite = async (room: RoomId): Promise<RoomId[]> => {
    if (account.isNew) await session.inviteUser(room, account.userId);
    else if ((await inviteUnlessThere(session, room, account.userId)) === "join") return [];
    return [room];
  };
  const [, ...invited] = await allInOrder([
    admin?.setRateLimit(account.userId, RATE_LIMIT),
    ...joins.map(invite),
  ]);
  for (const room of invited.flat()) await own.joinRoom(room);
}

/** A service finds keys in the system room and announces itself in the service room; its proxy accepts at its start. */
async function inviteToServiceRooms(
  session: MatrixSession,
  machine: MachineLocalpart,
  user: UserId,
): Promise<void> {
  const fleet = fleetOf(machine);
  for (const place of [rooms.system(namespaceOf(fleet)), rooms.fleetServices(fleet)])
    await inviteUnlessThere(session, await roomOf(session, place), user);
}

/** Content of `m.bureau.credentials`. */
type SealedBundle = InferInput<typeof CredentialsSchema>;

async function sealedCredentials(
  options: CreatePrincipal,
  account: Granted,
  recipient: string,
): Promise<SealedBundle> {
  const { escrowKeys = [] } = options;
  const bundle = {
    ...options.credentials,
    MATRIX_TOKEN: account.token,
    MATRIX_USER_ID: account.userId,
    // A socket is of this host; the machine has an address of its own.
    ...(socketOf(options.homeserver) === undefined ? { MATRIX_HOMESERVER_URL: options.homeserver } : {}),
  };
  return {
    version: 1,
    principal: account.userId,
    encrypted_for: [userIdOf(options.machine, serverOf(options.session.userId)), ...escrowKeys],
    keys: Object.keys(bundle).sort(),
    ciphertext: await seal(bundle, recipient, escrowKeys),
    provisioned_by: options.session.userId,
    provisioned_at: timestamp(systemClock),
    signature: "",
  };
}

export type DestroyPrincipal = Editor & {
  readonly machine: MachineLocalpart;
  readonly principal: PrincipalLocalpart;
  /** Also close its account. */
  readonly purge?: Purge;
};
type Purge = AccountKeys & { readonly admin: ServerAdmin };

/** The error for a principal that a machine does not run; it names those that it runs. */
export function notAssigned(
  machine: MachineLocalpart,
  principal: PrincipalLocalpart,
  assignments: readonly PrincipalAssignment[],
): BureauError {
  const name = principalNameOf(principal);
  const known = assignments.map((one) => principalNameOf(principalOfUser(one.principal)));
  const ownName = (account: string): string => account.slice(account.indexOf("/") + 1);
  const sibling = known.find((one) => ownName(one) === ownName(name));
  const message = `"${name}" is not assigned to "${machine}"`;
  if (sibling !== undefined)
    return new BureauError("not-found", message, { hint: `did you mean "${sibling}"?` });
  return new BureauError("not-found", message, {
    hint: instead(name, known, {
      are: "assigned to it",
      list: `bureau agent list --machine ${machine}`,
      none: `it has no agents: bureau agent create NAME --machine ${machine}`,
    }),
  });
}

/** Removes a principal's assignment, credentials and membership. @throws BureauError `not-found` when it has none */
export async function destroyPrincipal(options: DestroyPrincipal): Promise<void> {
  const { session, machine, principal } = options;
  const user = userIdOf(principal, serverOf(session.userId));
  const place = await configPlace(session, machine);
  const { written: assigned } = await editAssignment(options, place, user, undefined);
  const hadCredentials = await hasCredentials(session, place, user);
  if (!assigned && !hadCredentials && options.purge === undefined)
    throw notAssigned(machine, principal, (await readAssignments(session, place)).assignments);
  if (hadCredentials) await session.putState(place.room, eventTypes.credentials, stateKeyOf(user), {});
  const beside = await session.getState(place.room, eventTypes.credentialKeys, stateKeyOf(user));
  if (beside !== undefined)
    await session.putState(place.room, eventTypes.credentialKeys, stateKeyOf(user), {});
  if ((await session.joinedMembers(place.room)).includes(user))
    await session.kickUser(place.room, user, "principal destroyed");
  if (options.purge !== undefined) await closeAccount(user, options.purge);
}

/** As the server admin or with its own password. Never registers: a mistyped name would be made, and used up. */
async function closeAccount(user: UserId, { admin, ...keys }: Purge): Promise<void> {
  await closeAgentAccount(user, keys, admin).catch((error: unknown) => {
    if (!(error instanceof MatrixError) || error.errcode !== "M_NOT_FOUND") throw error;
    throw new BureauError("not-found", `There is no account "${user}" that can be closed`, {
      hint: "bureau agent list",
    });
  });
}
