/**
 * The key with which this machine signs service tokens, made at the first start (wire facts, section 6.6).
 *
 * The daemon holds it, not the launcher. The holder of the machine's Matrix session can publish another key for it,
 * so a key that the daemon cannot read would protect nothing from a daemon that is taken over. The decision what a token
 * grants needs the policies of the rooms, which the launcher never parses.
 */
import { readFileSync } from "node:fs";
import { BureauError, errnoOf, messageOf } from "@bureau/kit/errors";
import { writeDurably } from "@bureau/os/durable-file";
import { type Ed25519Key, ed25519Key, newEd25519Key } from "@bureau/os/ed25519";

/** @throws BureauError when the file cannot be read or made, or holds no key */
export function openSigningKey(file: string): Ed25519Key {
  const key = keyIn(file, readIfThere(file) ?? makeKey(file));
  const shown = `${file}.pub`;
  // Written only when it says something else: a daemon must start on a full disk.
  if (readIfThere(shown)?.equals(key.publicKey) !== true) writeDurably(shown, key.publicKey, 0o644);
  return key;
}

function makeKey(file: string): Uint8Array {
  const raw = newEd25519Key();
  writeDurably(file, raw, 0o600);
  return raw;
}

function readIfThere(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw new BureauError("failed", `Cannot read the token signing key "${file}": ${messageOf(error)}`);
  }
}

function keyIn(file: string, raw: Uint8Array): Ed25519Key {
  try {
    return ed25519Key(raw);
  } catch (error) {
    throw new BureauError(
      "invalid-input",
      `Cannot use the token signing key "${file}": ${messageOf(error)}`,
      {
        hint: `move it away and restart the daemon, which makes another: mv ${file} ${file}.broken`,
      },
    );
  }
}
