/**
 * The machine's age key: made once, kept in a 0600 file, and used for nothing but opening credential bundles.
 * The identity stays in this module; others get its public half and plaintext bundles.
 */
import { createHash } from "node:crypto";
import { readIfPresent, writeDurably } from "@bureau/kit/durable-file";
import { BureauError } from "@bureau/kit/errors";
import { type Layout, machineKeyFile, machinePublicKeyFile } from "@bureau/kit/layout";
import { Secret } from "@bureau/kit/secret";
import { parseJson } from "@bureau/schema/parse";
import type { MachineLocalpart } from "@bureau/schema/refs";
import { Decrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { check, pipe, record, string, unknown } from "valibot";

/** Decrypted credentials: name → value. Never logged, never written. */
export type CredentialBundle = Readonly<Record<string, string>>;

const BundleSchema = pipe(
  unknown(),
  check((value) => !Array.isArray(value)),
  record(string(), string()),
);

export type MachineKey = {
  /** `age1…`. */
  readonly publicKey: string;
  /** Opens a bundle: standard base64 of an age file whose plaintext is a JSON object. @throws BureauError */
  unseal(ciphertext: string): Promise<CredentialBundle>;
  /** The account password that first boot sets (section 9.13): only this key can derive it. */
  permanentPassword(machine: MachineLocalpart): Secret;
};

/** The key in the state folder; undefined when there is none. */
export async function loadMachineKey(layout: Layout): Promise<MachineKey | undefined> {
  const text = readIfPresent(machineKeyFile(layout))?.trim();
  if (text === undefined || text === "") return undefined;
  return machineKey(text, machineKeyFile(layout));
}

/** Makes and keeps a key. An existing one is used as it is: a first boot that was cut off goes on with it. */
export async function loadOrMakeMachineKey(layout: Layout): Promise<MachineKey> {
  const identity = readIfPresent(machineKeyFile(layout))?.trim() || (await generateX25519Identity());
  const key = await machineKey(identity, machineKeyFile(layout));
  if (readIfPresent(machineKeyFile(layout))?.trim() !== identity)
    writeDurably(machineKeyFile(layout), identity, 0o600);
  if (readIfPresent(machinePublicKeyFile(layout)) !== key.publicKey)
    writeDurably(machinePublicKeyFile(layout), key.publicKey, 0o644);
  return key;
}

async function machineKey(identity: string, path: string): Promise<MachineKey> {
  const decrypter = new Decrypter();
  let publicKey: string;
  try {
    decrypter.addIdentity(identity);
    publicKey = await identityToRecipient(identity);
  } catch {
    // The library's error may quote the key.
    throw new BureauError(
      "failed",
      `Cannot use the machine key in "${path}": it is not an age X25519 identity`,
    );
  }
  return {
    publicKey,
    unseal: (ciphertext) => unseal(decrypter, ciphertext, publicKey),
    permanentPassword: (machine) => new Secret(sha256Hex(`bureau-machine-permanent:${machine}:${identity}`)),
  };
}

async function unseal(
  decrypter: Decrypter,
  ciphertext: string,
  publicKey: string,
): Promise<CredentialBundle> {
  let plaintext: string;
  try {
    plaintext = await decrypter.decrypt(Buffer.from(ciphertext, "base64"), "text");
  } catch {
    throw new BureauError("failed", `Cannot open the credentials: they are not sealed for ${publicKey}`, {
      hint: "seal them again for this machine's current key",
    });
  }
  try {
    return parseJson(BundleSchema, plaintext, "credential bundle");
  } catch {
    // The parser's message may quote the plaintext.
    throw new BureauError("invalid-input", "The credential bundle is not a JSON object of strings");
  }
}

export const sha256Hex = (text: string): string => createHash("sha256").update(text).digest("hex");
