import { expect, test } from "bun:test";
import { adminPasswordText, principalPasswordText } from "@bureau/schema/derived-passwords";
import { parsePrincipal } from "@bureau/schema/refs";
import { isDerivedPassword } from "./derived-password.ts";
import { hashPassword, verifyPassword } from "./passwords.ts";

const token = "0123456789abcdef0123456789abcdef";
const agent = parsePrincipal("bureau/fleet/test/agent/a");
const derived = (text: string): string => new Bun.CryptoHasher("sha256").update(text).digest("hex");

test("knows the password that follows from the token, for its own account only", () => {
  const password = derived(principalPasswordText(agent, token));
  expect(isDerivedPassword(password, agent, token)).toBe(true);
  expect(isDerivedPassword(password, "bureau/fleet/test/agent/b", token)).toBe(false);
  expect(isDerivedPassword(derived(adminPasswordText(token)), "bureau-admin", token)).toBe(true);
  expect(isDerivedPassword("correct horse", agent, token)).toBe(false);
});

test("takes no password for a key when a person may have chosen the token", () => {
  const password = derived(principalPasswordText(agent, "short"));
  expect(isDerivedPassword(password, agent, "short")).toBe(false);
});

test("a key's hash needs no memory, and holds for that password only; others keep their cost", async () => {
  const fast = await hashPassword("a key", true);
  expect(fast).toStartWith("$argon2id$v=19$m=8,t=1,p=1$");
  expect(await verifyPassword("a key", fast)).toBe(true);
  expect(await verifyPassword("another", fast)).toBe(false);
  expect(await hashPassword("a password", false)).toStartWith("$argon2id$v=19$m=19456,t=2,p=1$");
});
