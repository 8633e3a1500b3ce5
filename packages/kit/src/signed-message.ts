/**
 * Bytes that a machine's daemon signs for services: deterministic CBOR, and a 64-byte Ed25519 signature of exactly these
 * bytes (wire facts, section 6.4). The caller hands in the operations on keys, so this is browser-safe.
 *
 * The signature is checked before anything is decoded: bytes of a stranger reach no parser.
 */
import { InputError, parse } from "@bureau/schema/parse";
import {
  RevocationSchema,
  type RevokedToken,
  revocationContent,
  type ServiceToken,
  ServiceTokenSchema,
  tokenContent,
} from "@bureau/schema/service-token";
import { decodeCbor } from "./cbor.ts";
import { encodeCbor } from "./encode-cbor.ts";
import { BureauError, isBureauError } from "./errors.ts";

const SIGNATURE_BYTES = 64;
/** A token holds the grants of one principal for one role. */
const TOKEN_BYTES_MAX = 64 * 1024;

export type Sign = (payload: Uint8Array) => Uint8Array;
export type Verify = (payload: Uint8Array, signature: Uint8Array) => boolean;

function signed(content: unknown, sign: Sign): Uint8Array<ArrayBuffer> {
  const payload = encodeCbor(content);
  const signature = sign(payload);
  const bytes = new Uint8Array(payload.length + SIGNATURE_BYTES);
  bytes.set(payload);
  bytes.set(signature, payload.length);
  return bytes;
}

export const signToken = (token: ServiceToken, sign: Sign): Uint8Array<ArrayBuffer> =>
  signed(tokenContent(token), sign);

export const signRevocation = (entries: readonly RevokedToken[], issuedAt: number, sign: Sign): Uint8Array =>
  signed(revocationContent(entries, issuedAt), sign);

/** The content of a message with a valid signature; undefined for any other bytes. */
function open<const Schema extends Parameters<typeof parse>[0]>(
  bytes: Uint8Array,
  verify: Verify,
  schema: Schema,
): ReturnType<typeof parse<Schema>> | undefined {
  const split = bytes.length - SIGNATURE_BYTES;
  if (split <= 0 || bytes.length > TOKEN_BYTES_MAX) return undefined;
  const payload = bytes.subarray(0, split);
  if (!verify(payload, bytes.subarray(split))) return undefined;
  try {
    return parse(schema, decodeCbor(payload), "signed message");
  } catch (error) {
    if (isBureauError(error) || error instanceof InputError) return undefined;
    throw error;
  }
}

/** What a token is checked against, once its signature is known to be valid. */
export type TokenCheck = {
  /** The role that the service serves. */
  readonly audience: string;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
  readonly isRevoked: (id: string) => boolean;
};

/**
 * The token in `bytes`, if its signature is valid: the same answer for the same bytes and key.
 * @throws BureauError `unauthorized`
 */
export function openToken(bytes: Uint8Array, verify: Verify): ServiceToken {
  const token = open(bytes, verify, ServiceTokenSchema);
  if (token === undefined) throw refused();
  return token;
}

/**
 * Whether an opened token is valid here and now. Order of the checks: expiry, audience, revocation.
 * @throws BureauError `unauthorized` with the wire's sentence, which does not say which part of a forged token is wrong
 */
export function requireValid(token: ServiceToken, { audience, nowMs, isRevoked }: TokenCheck): void {
  if (Math.floor(nowMs / 1_000) >= token.expiresAt) throw refused(": token expired");
  if (token.audience !== audience) throw refused();
  if (isRevoked(token.id)) throw refused(": token revoked");
}

/** The valid token in `bytes`. @throws BureauError `unauthorized` */
export function checkToken(bytes: Uint8Array, check: TokenCheck & { readonly verify: Verify }): ServiceToken {
  const token = openToken(bytes, check.verify);
  requireValid(token, check);
  return token;
}

const refused = (detail = ""): BureauError =>
  new BureauError("unauthorized", `authentication failed${detail}`, {
    hint: "read the token file again for each call: the daemon replaces it before it expires",
  });

/** The revoked tokens in a signed message. @throws BureauError `unauthorized` */
export function checkRevocation(bytes: Uint8Array, verify: Verify): readonly RevokedToken[] {
  const revocation = open(bytes, verify, RevocationSchema);
  if (revocation === undefined)
    throw new BureauError("unauthorized", "authentication failed", {
      hint: "only the daemon of this machine revokes tokens",
    });
  return revocation.entries;
}
