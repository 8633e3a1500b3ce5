/**
 * Sessions at rest: 0600 JSON files, written durably (wire facts, section 9.3). The machine's and the operator's differ
 * in one field's name; both parse to the same type.
 */
import { BureauError } from "@bureau/kit/errors";
import { HomeserverAddressSchema } from "@bureau/schema/homeserver-address";
import { parseJson, ref } from "@bureau/schema/parse";
import { parseUserId, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import { readIfPresent, writeDurably } from "./durable-file.ts";

/** The content of a session file. `token` is a secret. */
export type StoredSession = { readonly homeserver: string; readonly userId: UserId; readonly token: string };

const token = v.pipe(v.string(), v.minLength(1));
const MachineFileSchema = v.object({
  homeserver_url: HomeserverAddressSchema,
  user_id: ref(parseUserId),
  access_token: token,
});
const OperatorFileSchema = v.object({
  homeserver: HomeserverAddressSchema,
  user_id: ref(parseUserId),
  access_token: token,
});

/** @throws BureauError `not-found`, InputError when it is not one */
export function readMachineSession(path: string): StoredSession {
  const file = parseJson(MachineFileSchema, read(path), `machine session "${path}"`);
  return { homeserver: file.homeserver_url, userId: file.user_id, token: file.access_token };
}

export function writeMachineSession(path: string, session: StoredSession): void {
  const { homeserver, userId, token: access } = session;
  writeDurably(
    path,
    JSON.stringify({ homeserver_url: homeserver, user_id: userId, access_token: access }),
    0o600,
  );
}

/** `hint` is the next command when there is none. @throws BureauError `not-found`, InputError when it is not one */
export function readOperatorSession(path: string, hint = ""): StoredSession {
  const file = parseJson(OperatorFileSchema, read(path, hint), `session "${path}"`, hint);
  return { homeserver: file.homeserver, userId: file.user_id, token: file.access_token };
}

/** The folder must exist. */
export function writeOperatorSession(path: string, session: StoredSession): void {
  const { homeserver, userId, token: access } = session;
  writeDurably(path, JSON.stringify({ user_id: userId, access_token: access, homeserver }), 0o600);
}

function read(path: string, hint = ""): string {
  const text = readIfPresent(path);
  if (text === undefined) throw new BureauError("not-found", `There is no session at "${path}"`, { hint });
  return text;
}
