/** Random identifiers that cannot be guessed, in the alphabet that each Matrix grammar allows. */
import { randomBytes } from "node:crypto";

/** `bytes` of randomness in URL-safe base64 without padding. */
export const randomToken = (bytes: number): string => randomBytes(bytes).toString("base64url");

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const capitals = letters.slice(0, 26);

/** `length` random letters; `upper` for capitals only, as device IDs look. */
export function randomLetters(length: number, upper = false): string {
  const alphabet = upper ? capitals : letters;
  // 16 bits a letter: the bias of the remainder is below one in a thousand.
  const bytes = randomBytes(length * 2);
  let text = "";
  for (let index = 0; index < length; index++)
    text += alphabet[bytes.readUInt16LE(index * 2) % alphabet.length];
  return text;
}
