/**
 * Handles an age X25519 identity as bytes only. A string in the runtime's memory cannot be erased, so the launcher reads
 * the identity into a buffer, decodes it there, imports it as a non-extractable key, and overwrites the buffer.
 *
 * The format is age's: Bech32 (BIP 173) of the 32-byte scalar with the prefix `AGE-SECRET-KEY-`, in capitals; of the public
 * key with the prefix `age`. So a launcher loads the age library only when it opens credentials.
 */

const PREFIX = "AGE-SECRET-KEY-1";
const CHARSET = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
/** 32 bytes in groups of five bits, and a checksum of six groups. */
const DATA_SYMBOLS = 52;
const CHECKSUM_SYMBOLS = 6;
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3] as const;

/** The bytes before the scalar in PKCS #8 of an X25519 key (RFC 8410). */
const PKCS8_HEAD = Buffer.from("302e020100300506032b656e04220420", "hex");

/**
 * Imports the identity in `text`. Overwrites `text` and all copies of it with zeros.
 * @returns undefined when `text` is not an identity
 */
export async function importIdentity(text: Buffer): Promise<CryptoKey | undefined> {
  const pkcs8 = Buffer.concat([PKCS8_HEAD, Buffer.alloc(32)]);
  try {
    if (!decodeInto(trimmed(text), pkcs8.subarray(PKCS8_HEAD.length))) return undefined;
    return await crypto.subtle.importKey("pkcs8", pkcs8, { name: "X25519" }, false, ["deriveBits"]);
  } finally {
    pkcs8.fill(0);
    text.fill(0);
  }
}

/** The curve's base point (RFC 7748): its product with the scalar is the public key. */
const BASE_POINT = Uint8Array.from({ length: 32 }, (_, index) => (index === 0 ? 9 : 0));

/** The public key as age writes it: `age1…`. */
export async function recipientOf(identity: CryptoKey): Promise<string> {
  const base = await crypto.subtle.importKey("raw", BASE_POINT, { name: "X25519" }, false, []);
  const point = await crypto.subtle.deriveBits({ name: "X25519", public: base }, identity, 256);
  const symbols = regroup(new Uint8Array(point));
  let checksum = checksumOfPrefix("age");
  for (const value of symbols) checksum = step(checksum, value);
  for (let index = 0; index < CHECKSUM_SYMBOLS; index++) checksum = step(checksum, 0);
  // The checksum of a complete text is 1.
  const end = Array.from(
    { length: CHECKSUM_SYMBOLS },
    (_, index) => ((checksum ^ 1) >>> (5 * (CHECKSUM_SYMBOLS - 1 - index))) & 31,
  );
  return `age1${[...symbols, ...end]
    .map((value) => CHARSET.charAt(value))
    .join("")
    .toLowerCase()}`;
}

/** Bytes in groups of five bits, the last filled up with zeros. */
function regroup(bytes: Uint8Array): number[] {
  const symbols: number[] = [];
  let [bits, held] = [0, 0];
  for (const byte of bytes) {
    bits = ((bits << 8) | byte) & 0xfff;
    for (held += 8; held >= 5; ) {
      held -= 5;
      symbols.push((bits >> held) & 31);
    }
  }
  if (held > 0) symbols.push((bits << (5 - held)) & 31);
  return symbols;
}

/** A view, not a copy, of the bytes without the white space around them. */
export function trimmed(text: Buffer): Buffer {
  const isSpace = (byte: number | undefined): boolean =>
    byte === 0x20 || (byte !== undefined && byte >= 9 && byte <= 13);
  let [start, end] = [0, text.length];
  while (start < end && isSpace(text[start])) start++;
  while (end > start && isSpace(text[end - 1])) end--;
  return text.subarray(start, end);
}

/** Decodes and checks; false when `text` is not an identity. */
function decodeInto(text: Buffer, scalar: Buffer): boolean {
  if (text.length !== PREFIX.length + DATA_SYMBOLS + CHECKSUM_SYMBOLS) return false;
  if (text.subarray(0, PREFIX.length).toString("latin1") !== PREFIX) return false;
  let checksum = checksumOfPrefix(PREFIX.slice(0, -1));
  let [bits, held, at] = [0, 0, 0];
  for (const [index, byte] of text.subarray(PREFIX.length).entries()) {
    const value = CHARSET.indexOf(String.fromCharCode(byte));
    if (value < 0) return false;
    checksum = step(checksum, value);
    if (index >= DATA_SYMBOLS) continue;
    bits = ((bits << 5) | value) & 0xfff;
    held += 5;
    if (held < 8 || at >= scalar.length) continue;
    held -= 8;
    scalar[at++] = (bits >> held) & 0xff;
  }
  return checksum === 1 && at === scalar.length && (bits & ((1 << held) - 1)) === 0;
}

/** The checksum covers the prefix in lower case: its high bits, a zero, its low bits. */
function checksumOfPrefix(prefix: string): number {
  const human = Buffer.from(prefix.toLowerCase());
  let checksum = 1;
  for (const byte of human) checksum = step(checksum, byte >> 5);
  checksum = step(checksum, 0);
  for (const byte of human) checksum = step(checksum, byte & 31);
  return checksum;
}

function step(checksum: number, value: number): number {
  const top = checksum >>> 25;
  let next = ((checksum & 0x1ffffff) << 5) ^ value;
  for (const [bit, generator] of GENERATOR.entries()) if (((top >>> bit) & 1) === 1) next ^= generator;
  return next >>> 0;
}
