/** SHA-256 and random secrets without a server's modules: this package runs in a browser too. */
import { canonicalJson } from "@bureau/kit/canonical-json";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

/** SHA-256 of a text's UTF-8, in hex. */
export const sha256Hex = (text: string): string => bytesToHex(sha256(utf8ToBytes(text)));

/** SHA-256 of a value's canonical JSON, in hex. The same as `os/digest`. */
export const digestOf = (value: unknown): string => sha256Hex(canonicalJson(value));

/** Hex digits of so many random bytes, from the platform's secure source. */
export const randomHex = (bytes: number): string => bytesToHex(crypto.getRandomValues(new Uint8Array(bytes)));
