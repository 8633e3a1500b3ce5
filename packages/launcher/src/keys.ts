/**
 * The machine's age key. It is created once and only opens credential bundles. On an installed machine it is sealed on
 * disk and systemd passes it in memory (systemd-creds). In a rootless instance it is a file with mode 0600.
 *
 * The identity does not leave this module, as a non-extractable key. Callers get the public key and plaintext bundles.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import { readIfPresent, writeDurably } from "@bureau/os/durable-file";
import { type Layout, machineKeyFile, machinePublicKeyFile, systemHost } from "@bureau/os/layout";
import { credentialFile } from "@bureau/os/systemd";
import { parseJson } from "@bureau/schema/parse";
import type { MachineLocalpart } from "@bureau/schema/refs";
import type { Decrypter } from "age-encryption";
import { check, pipe, record, string, unknown } from "valibot";
import { importIdentity, recipientOf, trimmed } from "./age-identity.ts";

/** Decrypted credentials: name → value. Never logged, never written. */
export type CredentialBundle = Readonly<Record<string, string>>;

const BundleSchema = pipe(
  unknown(),
  check((value) => !Array.isArray(value)),
  record(string(), string()),
);

/** Protection of the key at rest: sealed, and opened by systemd only for this unit; or a file that its user can read. */
export type KeyProtection = "systemd-creds" | "file";

export type MachineKey = {
  /** `age1…`. */
  readonly publicKey: string;
  readonly protection: KeyProtection;
  /** Opens a bundle: standard base64 of an age file whose plaintext is a JSON object. @throws BureauError */
  unseal(ciphertext: string): Promise<CredentialBundle>;
  /** The account password that first boot sets (section 9.13): only this key can derive it. */
  permanentPassword(machine: MachineLocalpart): Secret;
};

/** The name of the credential in the service manager. */
const CREDENTIAL = "machine-key";

type KeyPlace = { readonly path: string; readonly protection: KeyProtection };

/** The service manager's credential where it passes credentials, else the file. Never a fallback from one to the other. */
function placeOf(layout: Layout): KeyPlace {
  const credential = credentialFile(CREDENTIAL);
  return credential === undefined
    ? { path: machineKeyFile(layout), protection: "file" }
    : { path: credential, protection: "systemd-creds" };
}

/** The machine's key; undefined when there is none. */
export async function loadMachineKey(layout: Layout): Promise<MachineKey | undefined> {
  const place = placeOf(layout);
  const text = readBytes(place.path);
  return text === undefined || trimmed(text).length === 0 ? undefined : machineKey(text, place);
}

/**
 * The machine's key; creates and stores one when there is none. An interrupted first boot continues with the existing key.
 * @throws BureauError when the service manager passes credentials, but not this key
 */
export async function loadOrMakeMachineKey(layout: Layout): Promise<MachineKey> {
  const key = (await loadMachineKey(layout)) ?? (await makeMachineKey(layout));
  if (readIfPresent(machinePublicKeyFile(layout)) !== key.publicKey)
    writeDurably(machinePublicKeyFile(layout), key.publicKey, 0o644);
  return key;
}

async function makeMachineKey(layout: Layout): Promise<MachineKey> {
  const place = placeOf(layout);
  if (place.protection !== "file")
    throw new BureauError("failed", `Cannot join: the service manager passed no key at "${place.path}"`, {
      hint: `sudo ${systemHost.command} machine doctor --fix`,
    });
  const identity = await newIdentity();
  writeDurably(place.path, identity, 0o600);
  return machineKey(Buffer.from(identity), place);
}

/** Prints a new identity, for a program that seals it (`systemd-creds encrypt`): so the disk never has it in clear. */
export async function printNewKey(): Promise<void> {
  await Bun.write(Bun.stdout, `${await newIdentity()}\n`);
}

/**
 * Loading the library would be most of a launcher's start, and only a bundle needs it. So the launcher loads it after its
 * socket answers.
 */
export const loadAge = () => import("./age-library.ts");

const newIdentity = async (): Promise<string> => (await loadAge()).generateX25519Identity();

async function machineKey(text: Buffer, place: KeyPlace): Promise<MachineKey> {
  const imported = await importIdentity(text);
  if (imported === undefined)
    throw new BureauError(
      "failed",
      `Cannot use the machine key in "${place.path}": it is not an age X25519 identity`,
    );
  const publicKey = await recipientOf(imported);
  return {
    publicKey,
    protection: place.protection,
    async unseal(ciphertext) {
      const decrypter = new (await loadAge()).Decrypter();
      decrypter.addIdentity(imported);
      return await unseal(decrypter, ciphertext, publicKey);
    },
    permanentPassword: (machine) => permanentPassword(machine, place),
  };
}

/** Reads the identity again instead of keeping it in memory: only a first boot needs this. */
function permanentPassword(machine: MachineLocalpart, place: KeyPlace): Secret {
  const text = readFileSync(place.path);
  try {
    const hash = createHash("sha256").update(`bureau-machine-permanent:${machine}:`).update(trimmed(text));
    return new Secret(hash.digest("hex"));
  } finally {
    text.fill(0);
  }
}

function readBytes(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
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
