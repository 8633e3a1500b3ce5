/**
 * The sealed credentials of one principal: its bundle, and the keys that were provisioned one by one. The daemon cannot open
 * them. It checks whose they are and which names they have.
 */
import type { StateEvent } from "@bureau/matrix/event";
import {
  type CredentialKeys,
  CredentialKeysSchema,
  ciphertextsOf,
  type KeyCiphertexts,
  namesWith,
} from "@bureau/schema/credentials-keys";
import { CredentialsSchema, isCleared } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import type { UserId } from "@bureau/schema/refs";
import type { Template } from "@bureau/schema/template";

export type SealedCredentials = {
  /** Standard base64 of an age file. */
  readonly ciphertext: string;
  /** Absent when there are none. */
  readonly keys?: KeyCiphertexts;
};

type Refused = { readonly kind: "failed" | "waiting"; readonly reason: string };

export type CredentialEvents = {
  readonly credentials: StateEvent | undefined;
  readonly credentialKeys: StateEvent | undefined;
};

/**
 * Missing or faulty credentials start nothing, and leave a running sandbox as it is. Revoked ones stop it: `waiting`.
 */
export function resolveCredentials(
  principal: UserId,
  template: Template,
  events: CredentialEvents,
): SealedCredentials | Refused {
  try {
    const beside = besideOf(principal, events.credentialKeys);
    const { credentials: event } = events;
    if (event === undefined || isCleared(event.content))
      return beside?.revoked_by === undefined
        ? failed(`There are no credentials for ${principal}`)
        : { kind: "waiting", reason: `for credentials: ${beside.revoked_by} revoked them` };
    const credentials = parse(CredentialsSchema, event.content, `credentials of ${principal}`);
    if (credentials.principal !== principal)
      return failed(`The credentials of ${principal} belong to ${credentials.principal}`);
    const keys = beside === undefined ? {} : ciphertextsOf(beside);
    const names = new Set(namesWith(credentials.keys ?? [], keys));
    const lacking = (template.required_credentials ?? []).filter((key) => !names.has(key));
    if (lacking.length > 0)
      return failed(`The credentials of ${principal} lack ${lacking.map((key) => `"${key}"`).join(", ")}`);
    const { ciphertext } = credentials;
    return Object.keys(keys).length === 0 ? { ciphertext } : { ciphertext, keys };
  } catch (error) {
    if (error instanceof InputError) return failed(error.message);
    throw error;
  }
}

function besideOf(principal: UserId, event: StateEvent | undefined): CredentialKeys | undefined {
  if (event === undefined || isCleared(event.content)) return undefined;
  const what = `credential keys of ${principal}`;
  const keys = parse(CredentialKeysSchema, event.content, what);
  if (keys.principal !== principal) throw new InputError(what, [`they belong to ${keys.principal}`]);
  return keys;
}

const failed = (reason: string): Refused => ({ kind: "failed", reason });
