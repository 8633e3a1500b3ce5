/**
 * Passwords that follow from the registration token (schema/derived-passwords). They are digests of a secret that cannot be
 * guessed, so a hash that makes each guess slow protects nothing; it would only slow down the creation of accounts.
 */
import { timingSafeEqual } from "node:crypto";
import {
  adminPasswordText,
  machinePasswordText,
  principalPasswordText,
} from "@bureau/schema/derived-passwords";
import { parseMachine, parsePrincipal, RefError } from "@bureau/schema/refs";

/** Shorter tokens may be chosen by people, and guessed. */
const TOKEN_CHARS_MIN = 32;

/** Whether the password of the account with this localpart is one that its administrator derives. */
export function isDerivedPassword(password: string, localpart: string, registrationToken: string): boolean {
  if (registrationToken.length < TOKEN_CHARS_MIN) return false;
  const given = sha256(password);
  return textsFor(localpart, registrationToken).some((text) =>
    timingSafeEqual(given, sha256(sha256(text).toString("hex"))),
  );
}

function textsFor(localpart: string, token: string): string[] {
  try {
    const machine = localpart.includes("/machine/")
      ? [machinePasswordText(parseMachine(localpart), token)]
      : [];
    return [...machine, principalPasswordText(parsePrincipal(localpart), token)];
  } catch (error) {
    if (!(error instanceof RefError)) throw error;
    return [adminPasswordText(token)];
  }
}

const sha256 = (text: string): Buffer => Buffer.from(new Bun.CryptoHasher("sha256").update(text).digest());
