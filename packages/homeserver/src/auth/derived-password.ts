/**
 * Passwords that follow from the registration token (schema/derived-passwords). They are digests of a secret that cannot be
 * guessed, so a hash that makes each guess slow protects nothing; it would only slow down the creation of accounts.
 */
import { timingSafeEqual } from "node:crypto";
import { sha256Hex } from "@bureau/os/digest";
import {
  adminPasswordText,
  machinePasswordText,
  principalPasswordText,
} from "@bureau/schema/derived-passwords";
import { parseMachine, parsePrincipal, RefError } from "@bureau/schema/refs";

/** Shorter tokens may be chosen by people, and guessed. */
const TOKEN_CHARS_MIN = 32;

/** Whether an administrator derived this password for the account with this localpart. */
export function isDerivedPassword(password: string, localpart: string, registrationToken: string): boolean {
  if (registrationToken.length < TOKEN_CHARS_MIN) return false;
  // Digests have equal lengths, which the comparison needs.
  const digest = (text: string): Buffer => Buffer.from(sha256Hex(text));
  return textsFor(localpart, registrationToken).some((text) =>
    timingSafeEqual(digest(password), digest(sha256Hex(text))),
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
