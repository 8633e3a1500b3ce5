/** Ed25519 keys in the forms of the wire: 32 raw bytes, and a private key as Go writes it, seed ∥ public key (section 6.6). */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { BureauError } from "@bureau/kit/errors";

const KEY_BYTES = 32;
/** What stands before the raw key in its DER form (RFC 8410). */
const publicPrefix = Buffer.from("302a300506032b6570032100", "hex");
const privatePrefix = Buffer.from("302e020100300506032b657004220420", "hex");

/** Checks signatures of a public key. @throws BureauError `invalid-input` unless it has 32 bytes */
export function ed25519Verifier(
  publicKey: Uint8Array,
): (bytes: Uint8Array, signature: Uint8Array) => boolean {
  if (publicKey.length !== KEY_BYTES)
    throw new BureauError("invalid-input", `an Ed25519 key has 32 bytes, not ${publicKey.length}`);
  const key = createPublicKey({
    key: Buffer.concat([publicPrefix, publicKey]),
    format: "der",
    type: "spki",
  });
  return (bytes, signature) => verify(null, bytes, key, signature);
}

export type Ed25519Key = {
  readonly publicKey: Uint8Array;
  readonly sign: (bytes: Uint8Array) => Uint8Array;
};

/** A key from its 64 bytes. @throws BureauError `invalid-input` when the halves do not belong together */
export function ed25519Key(raw: Uint8Array): Ed25519Key {
  if (raw.length !== 2 * KEY_BYTES)
    throw new BureauError("invalid-input", `an Ed25519 private key has 64 bytes, not ${raw.length}`);
  const key = createPrivateKey({
    key: Buffer.concat([privatePrefix, raw.subarray(0, KEY_BYTES)]),
    format: "der",
    type: "pkcs8",
  });
  const derived = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-KEY_BYTES);
  if (!derived.equals(raw.subarray(KEY_BYTES)))
    throw new BureauError(
      "invalid-input",
      "the two halves of the Ed25519 private key do not belong together",
    );
  return { publicKey: new Uint8Array(derived), sign: (bytes) => sign(null, bytes, key) };
}

/** A new key, as its 64 bytes. */
export function newEd25519Key(): Uint8Array {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const seed = privateKey.export({ format: "der", type: "pkcs8" }).subarray(-KEY_BYTES);
  return Buffer.concat([seed, publicKey.export({ format: "der", type: "spki" }).subarray(-KEY_BYTES)]);
}
