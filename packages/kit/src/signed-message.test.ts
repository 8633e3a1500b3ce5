import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { parseUserId } from "@bureau/schema/refs";
import { type ServiceToken, tokenPermits } from "@bureau/schema/service-token";
import { checkRevocation, checkToken, signRevocation, signToken } from "./signed-message.ts";

/** A keyed hash in place of a signature: these tests are about what is signed, and the order of checks. */
const mac = (bytes: Uint8Array): Uint8Array =>
  createHash("sha512").update("key").update(bytes).digest().subarray(0, 64);
const verify = (bytes: Uint8Array, signature: Uint8Array): boolean =>
  Buffer.from(mac(bytes)).equals(signature);

const token: ServiceToken = {
  subject: parseUserId("@b/fleet/p/agent/a:s"),
  machine: parseUserId("@b/fleet/p/machine/m:s"),
  audience: "ticket",
  grants: [
    { actions: ["ticket/**"], targets: [] },
    { actions: ["ticket/close"], targets: ["agent/*"] },
  ],
  id: "00".repeat(16),
  issuedAt: 1_000,
  expiresAt: 1_300,
};
const check = { verify, audience: "ticket", nowMs: 1_299_999, isRevoked: () => false };
const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return "accepted";
};

test("a signed token is read back", () => {
  expect(checkToken(signToken(token, mac), check)).toEqual({ ...token, project: undefined });
});

describe("refuses", () => {
  const bytes = signToken(token, mac);
  test("every token with one changed byte", () => {
    for (let at = 0; at < bytes.length; at++) {
      const forged = bytes.slice();
      forged[at] = (forged[at] ?? 0) ^ 1;
      expect(refusal(() => checkToken(forged, check))).toBe("authentication failed");
    }
  });
  test.each([
    ["nothing", new Uint8Array()],
    ["a signature of nothing", mac(new Uint8Array())],
    ["more bytes than a token has", new Uint8Array(1024 * 1024)],
  ])("%s", (_, forged) => {
    expect(refusal(() => checkToken(forged, check))).toBe("authentication failed");
  });
  test("content that is signed and is no token", () => {
    const payload = Uint8Array.of(0xa0);
    expect(refusal(() => checkToken(Buffer.concat([payload, mac(payload)]), check))).toBe(
      "authentication failed",
    );
  });
  test("an expired token, from the second it names", () => {
    expect(refusal(() => checkToken(bytes, { ...check, nowMs: 1_300_000 }))).toBe(
      "authentication failed: token expired",
    );
  });
  test("a token for another role, without saying which", () => {
    expect(refusal(() => checkToken(bytes, { ...check, audience: "fleet" }))).toBe("authentication failed");
  });
  test("a revoked token", () => {
    const isRevoked = (id: string): boolean => id === token.id;
    expect(refusal(() => checkToken(bytes, { ...check, isRevoked }))).toBe(
      "authentication failed: token revoked",
    );
  });
  test("in the wire's order: signature, expiry, audience, revocation", () => {
    const worst = { ...check, audience: "x", nowMs: 9e12, isRevoked: () => true };
    const forged = bytes.slice();
    forged[0] = 0;
    expect(refusal(() => checkToken(forged, worst))).toBe("authentication failed");
    expect(refusal(() => checkToken(bytes, worst))).toBe("authentication failed: token expired");
    expect(refusal(() => checkToken(bytes, { ...worst, nowMs: 0 }))).toBe("authentication failed");
  });
});

test("a target needs a pattern that matches it; without a target the action is enough", () => {
  expect(tokenPermits(token, "ticket/create")).toBe(true);
  expect(tokenPermits(token, "ticket/create", "agent/x")).toBe(false);
  expect(tokenPermits(token, "ticket/close", "agent/x")).toBe(true);
  expect(tokenPermits(token, "ticket/close", "service/x")).toBe(false);
  expect(tokenPermits(token, "fleet/drain")).toBe(false);
});

test("a revocation counts only with its signature", () => {
  const entries = [{ id: token.id, expiresAt: token.expiresAt }];
  const bytes = signRevocation(entries, 1_100, mac);
  expect(checkRevocation(bytes, verify)).toEqual(entries);
  expect(refusal(() => checkRevocation(bytes, () => false))).toBe("authentication failed");
  expect(refusal(() => checkRevocation(signToken(token, mac), verify))).toBe("authentication failed");
});
