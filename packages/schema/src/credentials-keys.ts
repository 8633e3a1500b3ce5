/**
 * `m.bureau.credential_keys` in a config room, one for each principal: credentials that were provisioned one by one, beside
 * the bundle in `m.bureau.credentials`. An operator cannot open a bundle, and so cannot add a key to it. Here each key is
 * sealed alone, and replaces the key of the same name in the bundle.
 *
 * An addition of ours: other implementations read the bundle, which stays as it is.
 */
import * as v from "valibot";
import { isLostKey, list, mapOf, ref, unset } from "./parse.ts";
import { parseUserId } from "./refs.ts";

const userId = ref(parseUserId);

/** Bytes of one value; an event has 65,536, and holds several keys. */
export const CREDENTIAL_BYTES_MAX = 16_384;
/** Keys of one principal that are provisioned one by one. */
export const CREDENTIAL_KEYS_MAX = 64;

/** Names that launchers use for the Matrix session: `rotate` writes them, an operator does not. */
const MATRIX_KEYS: ReadonlySet<string> = new Set(["MATRIX_TOKEN", "MATRIX_USER_ID", "MATRIX_HOMESERVER_URL"]);
const KEY_NAME = /^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/u;

/** @throws Error with a sentence for a name that no credential can have */
export function parseCredentialName(name: string): string {
  if (!KEY_NAME.test(name))
    throw new Error(
      `"${name.slice(0, 80)}" is no name of a credential: letters, digits, "_", "-" and ".", at most 64, no digit first`,
    );
  if (isLostKey(name)) throw new Error(`a credential may not be called "${name}"`);
  if (MATRIX_KEYS.has(name)) throw new Error(`"${name}" is of the principal's Matrix session`);
  return name;
}

const SealedKeySchema = v.object({
  /** Standard base64 of an age file with a JSON object of this one key; unset: the key is revoked, also in the bundle. */
  ciphertext: unset(v.string()),
  /** Recipients: the machine's user ID, and escrow keys. */
  encrypted_for: v.optional(list(v.string())),
  provisioned_by: userId,
  provisioned_at: v.string(),
});
export type SealedKey = v.InferOutput<typeof SealedKeySchema>;

export const CredentialKeysSchema = v.object({
  version: v.pipe(v.number(), v.integer()),
  principal: userId,
  keys: v.optional(mapOf(SealedKeySchema)),
  /** Set: all credentials of the principal are revoked, unless a bundle was provisioned after that. */
  revoked_by: unset(userId),
  revoked_at: unset(v.string()),
});
export type CredentialKeys = v.InferOutput<typeof CredentialKeysSchema>;

/** Name → ciphertext, as the launcher takes them; an empty one removes the key. */
export type KeyCiphertexts = Readonly<Record<string, string>>;

export const ciphertextsOf = ({ keys = {} }: CredentialKeys): KeyCiphertexts =>
  Object.fromEntries(
    Object.entries(keys)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, { ciphertext }]) => [name, ciphertext ?? ""]),
  );

/** The names that a principal has, of the bundle's names and the keys beside it. */
export function namesWith(bundle: readonly string[], ciphertexts: KeyCiphertexts): string[] {
  const names = new Set(bundle);
  for (const [name, ciphertext] of Object.entries(ciphertexts))
    if (ciphertext === "") names.delete(name);
    else names.add(name);
  return [...names].sort();
}
