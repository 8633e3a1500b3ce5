/**
 * The credentials of one principal, as an operator changes them. An operator cannot open a bundle, so a single key is sealed
 * alone into an event beside it (schema/credentials-keys): this needs no machine that is online, no escrow identity, and no
 * program that may see the other keys.
 */
import { type Clock, systemClock, timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { login } from "@bureau/matrix/auth";
import { editState, type StateContent, type StatePlace } from "@bureau/matrix/edit-state";
import { MatrixSession } from "@bureau/matrix/session";
import {
  CREDENTIAL_BYTES_MAX,
  CREDENTIAL_KEYS_MAX,
  type CredentialKeys,
  CredentialKeysSchema,
  parseCredentialName,
  type SealedKey,
} from "@bureau/schema/credentials-keys";
import { type CredentialRevocation, CredentialsSchema, eventTypes, isCleared } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import {
  aliasOf,
  fleetOf,
  type MachineLocalpart,
  type PrincipalLocalpart,
  principalNameOf,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
  userOfStateKey,
} from "@bureau/schema/refs";
import type { Editor } from "../editor.ts";
import type { AccountKeys } from "../machines/machine-agents.ts";
import { configPlace } from "../machines/machine-config.ts";
import { principalPassword } from "../principals/administrator.ts";
import { roomOf } from "../rooms/places.ts";
import { stateOfTypes } from "../rooms/state-of-types.ts";
import { machineRecipient, seal } from "./seal.ts";

/** Whose credentials. */
export type CredentialOwner = Editor & {
  readonly machine: MachineLocalpart;
  readonly principal: PrincipalLocalpart;
  readonly clock?: Clock;
};

/** Name → the sealed key; undefined: none, so that the bundle's key of that name counts. */
type Keys = ReadonlyMap<string, SealedKey | undefined>;

const MATRIX_TOKEN = "MATRIX_TOKEN";

/**
 * Provisions keys: each replaces the key of that name, in the bundle too. Returns the names.
 * @throws BureauError `not-found` for a principal without credentials; `invalid-input` for a name or an escrow key
 */
export async function provisionKeys(
  owner: CredentialOwner,
  values: Readonly<Record<string, string>>,
  escrow: readonly string[],
): Promise<string[]> {
  for (const [name, value] of Object.entries(values)) checkKey(name, value);
  const at = await requireOwner(owner);
  await writeSealed(owner, at, values, escrow);
  return Object.keys(values).sort();
}

/** The bundle was sealed again with these keys: those of the same names beside it no longer replace them. */
export async function dropKeys(owner: CredentialOwner, names: readonly string[]): Promise<void> {
  const at = await placeOf(owner);
  const content = await owner.session.getState(at.room, eventTypes.credentialKeys, at.key);
  if (content === undefined) return;
  await writeKeys(owner, at, new Map(names.map((name) => [name, undefined])));
}

/** {@link provisionKeys} of one key that exists. @throws BureauError `not-found` when it does not */
export async function rotateKey(
  owner: CredentialOwner,
  name: string,
  value: string,
  escrow: readonly string[],
): Promise<void> {
  await requireKey(owner, name);
  await provisionKeys(owner, { [name]: value }, escrow);
}

/**
 * Gives the principal another session of its account. The previous one stays valid: its proxy uses it until the machine
 * has the new one.
 */
export async function rotateToken(
  owner: CredentialOwner,
  keys: AccountKeys,
  escrow: readonly string[],
): Promise<void> {
  const at = await requireOwner(owner);
  const { token } = await logIn(owner, keys);
  await writeSealed(owner, at, { [MATRIX_TOKEN]: token }, escrow);
}

/** Removes one key, from the bundle too. @throws BureauError `not-found` when the principal has no such key */
export async function revokeKey(owner: CredentialOwner, name: string): Promise<void> {
  const at = await requireKey(owner, name);
  const { session, clock = systemClock } = owner;
  const revoked = { provisioned_by: session.userId, provisioned_at: timestamp(clock) };
  await writeKeys(owner, at, new Map([[name, revoked]]));
}

/**
 * Revokes all credentials of the principal: clears its bundle and its keys, publishes the revocation, and ends the sessions
 * of its account when `keys` open it. Its machine then stops it. Returns whether its sessions are ended.
 */
export async function revokeCredentials(
  owner: CredentialOwner,
  reason: string | undefined,
  keys: AccountKeys | undefined,
): Promise<boolean> {
  const { session, takeTurn, clock = systemClock } = owner;
  const at = await requireOwner(owner);
  const revoked: CredentialKeys = {
    version: 1,
    principal: at.user,
    keys: {},
    revoked_by: session.userId,
    revoked_at: timestamp(clock),
  };
  {
    using _turn = await takeTurn();
    // First why there are none: otherwise the machine would keep the sandbox until it learns the reason.
    await session.putState(at.room, eventTypes.credentialKeys, at.key, revoked);
    await session.putState(at.room, eventTypes.credentials, at.key, {});
  }
  await publishRevocation(owner, at, reason);
  if (keys === undefined) return false;
  const { token, userId } = await logIn(owner, keys);
  const { fetch } = session.server;
  await new MatrixSession({ homeserver: keys.homeserver, fetch, userId, token }).logout(true);
  return true;
}

/** One key of a principal; `when` and `by` are the bundle's for a key in it. */
export type ListedKey = {
  readonly name: string;
  readonly encrypted_for: readonly string[];
  readonly provisioned_by: UserId;
  readonly provisioned_at: string;
  /** Set: the key was revoked, by that user at that time. */
  readonly revoked?: true;
};

export type ListedCredentials = {
  readonly principal: UserId;
  readonly keys: readonly ListedKey[];
  /** Why its credentials cannot be read. */
  readonly fault?: string;
};

/** The names of all credentials that a machine's principals have; never a value. */
export async function listCredentials(
  session: MatrixSession,
  machine: MachineLocalpart,
): Promise<ListedCredentials[]> {
  const { room } = await configPlace(session, machine);
  return await credentialsIn(session, room);
}

async function credentialsIn(session: MatrixSession, room: RoomId): Promise<ListedCredentials[]> {
  const found = new Map<string, { bundle?: unknown; keys?: unknown }>();
  const types = [eventTypes.credentials, eventTypes.credentialKeys];
  for (const { type, stateKey, content } of await stateOfTypes(session, room, types)) {
    if (isCleared(content)) continue;
    const part = type === eventTypes.credentials ? { bundle: content } : { keys: content };
    found.set(stateKey, { ...found.get(stateKey), ...part });
  }
  return [...found]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([stateKey, parts]) => listed(userOfStateKey(stateKey), parts));
}

function listed(
  principal: UserId,
  { bundle, keys }: { readonly bundle?: unknown; readonly keys?: unknown },
): ListedCredentials {
  try {
    const all = new Map<string, ListedKey>();
    if (bundle !== undefined) {
      const whole = parse(CredentialsSchema, bundle, `credentials of ${principal}`);
      const { encrypted_for, provisioned_by, provisioned_at } = whole;
      for (const name of whole.keys) all.set(name, { name, encrypted_for, provisioned_by, provisioned_at });
    }
    const beside = keys === undefined ? undefined : parse(CredentialKeysSchema, keys, `keys of ${principal}`);
    for (const [name, one] of Object.entries(beside?.keys ?? {})) {
      const { ciphertext, encrypted_for = [], provisioned_by, provisioned_at } = one;
      const isRevoked = ciphertext === undefined ? { revoked: true as const } : {};
      all.set(name, { name, encrypted_for, provisioned_by, provisioned_at, ...isRevoked });
    }
    return { principal, keys: [...all.values()].sort((one, other) => (one.name < other.name ? -1 : 1)) };
  } catch (error) {
    return { principal, keys: [], fault: error instanceof Error ? error.message : String(error) };
  }
}

type OwnerPlace = { readonly room: RoomId; readonly key: string; readonly user: UserId };

async function placeOf({ session, machine, principal }: CredentialOwner): Promise<OwnerPlace> {
  const user = userIdOf(principal, serverOf(session.userId));
  const { room } = await configPlace(session, machine);
  return { room, key: stateKeyOf(user), user };
}

async function requireOwner(owner: CredentialOwner): Promise<OwnerPlace> {
  const at = await placeOf(owner);
  const bundle = await owner.session.getState(at.room, eventTypes.credentials, at.key);
  if (typeof bundle === "object" && bundle !== null && Object.keys(bundle).length > 0) return at;
  const name = principalNameOf(owner.principal);
  throw new BureauError("not-found", `"${name}" has no credentials on "${owner.machine}"`, {
    hint: `bureau agent create ${name.slice(name.indexOf("/") + 1)} --machine ${owner.machine} --new-credentials`,
  });
}

async function requireKey(owner: CredentialOwner, name: string): Promise<OwnerPlace> {
  checkName(name);
  const at = await placeOf(owner);
  const all = await credentialsIn(owner.session, at.room);
  const names = (all.find(({ principal }) => principal === at.user)?.keys ?? []).flatMap((key) =>
    key.revoked === true ? [] : [key.name],
  );
  if (names.includes(name)) return at;
  const shown = principalNameOf(owner.principal);
  throw new BureauError("not-found", `"${shown}" has no credential "${name}"`, {
    hint: names.length === 0 ? "bureau credential list" : `it has ${names.join(", ")}`,
  });
}

function checkName(name: string): void {
  try {
    parseCredentialName(name);
  } catch (error) {
    throw new BureauError("invalid-input", error instanceof Error ? error.message : String(error), {
      hint: "bureau credential provision agent/NAME --key API_KEY",
    });
  }
}

function checkKey(name: string, value: string): void {
  checkName(name);
  const bytes = new TextEncoder().encode(value).length;
  if (bytes === 0)
    throw new BureauError("invalid-input", `The value of "${name}" is empty`, {
      hint: `bureau credential revoke removes a key`,
    });
  if (bytes > CREDENTIAL_BYTES_MAX)
    throw new BureauError(
      "too-large",
      `The value of "${name}" has ${bytes} bytes, more than ${CREDENTIAL_BYTES_MAX}`,
    );
}

async function writeSealed(
  owner: CredentialOwner,
  at: OwnerPlace,
  values: Readonly<Record<string, string>>,
  escrow: readonly string[],
): Promise<void> {
  const { session, machine, clock = systemClock } = owner;
  const server = serverOf(session.userId);
  const recipient = await machineRecipient(
    session,
    machine,
    await roomOf(session, rooms.fleetMachines(fleetOf(machine))),
  );
  const sealed = Object.entries(values).map(
    async ([name, value]): Promise<[string, SealedKey]> => [
      name,
      {
        ciphertext: await seal({ [name]: value }, recipient, escrow),
        encrypted_for: [userIdOf(machine, server), ...escrow],
        provisioned_by: session.userId,
        provisioned_at: timestamp(clock),
      },
    ],
  );
  await writeKeys(owner, at, new Map(await Promise.all(sealed)));
}

/** Changes these keys and leaves the others, also those that another operator writes at the same moment. */
async function writeKeys(
  { session, takeTurn, principal }: CredentialOwner,
  at: OwnerPlace,
  keys: Keys,
): Promise<void> {
  using _turn = await takeTurn();
  const place: StatePlace = { room: at.room, type: eventTypes.credentialKeys, key: at.key };
  const apply = (content: StateContent, change: Keys): StateContent => {
    const next = Object.fromEntries([...new Map([...keysOf(content), ...change])].filter(([, one]) => one));
    if (Object.keys(next).length > CREDENTIAL_KEYS_MAX)
      throw new BureauError(
        "too-large",
        `"${principalNameOf(principal)}" would have more than ${CREDENTIAL_KEYS_MAX} single credentials`,
        { hint: `bureau credential list` },
      );
    return { version: 1, principal: at.user, keys: next };
  };
  const difference = (before: StateContent, after: StateContent): Keys => {
    const [old, now] = [keysOf(before), keysOf(after)];
    const names = [...new Set([...old.keys(), ...now.keys()])];
    return new Map(
      names
        .filter((name) => JSON.stringify(old.get(name)) !== JSON.stringify(now.get(name)))
        .map((name) => [name, now.get(name)]),
    );
  };
  await editState(session, place, keys, { apply, difference });
}

const keysOf = (content: StateContent): Map<string, SealedKey | undefined> =>
  isCleared(content)
    ? new Map()
    : new Map(Object.entries(parse(CredentialKeysSchema, content, eventTypes.credentialKeys).keys ?? {}));

/** The record that services watch which revoke at the outside system (wire facts, section 3.10). */
async function publishRevocation(
  { session, machine, clock = systemClock }: CredentialOwner,
  at: OwnerPlace,
  reason: string | undefined,
): Promise<void> {
  const server = serverOf(session.userId);
  const room = await session.resolveAlias(aliasOf(rooms.fleetMachines(fleetOf(machine)), server));
  if (room === undefined) return;
  const content: CredentialRevocation = {
    machine,
    machine_user_id: userIdOf(machine, server),
    principals: [at.user],
    credential_keys: [at.key],
    initiated_by: session.userId,
    initiated_at: timestamp(clock),
    ...(reason === undefined ? {} : { reason }),
    account_deactivated: false,
  };
  await session.putState(room, eventTypes.credentialRevocation, at.key, content);
}

async function logIn({ session, principal }: CredentialOwner, keys: AccountKeys) {
  const { homeserver, registrationToken } = keys;
  const password = principalPassword(principal, registrationToken);
  return await login({
    homeserver,
    fetch: session.server.fetch,
    user: principal,
    password,
    deviceName: "bureau",
  });
}
