import { describe, expect, test } from "bun:test";
import { checkRevocation, checkToken, signRevocation, signToken } from "@bureau/kit/signed-message";
import { parseUserId } from "@bureau/schema/refs";
import { ed25519Key, ed25519Verifier, newEd25519Key } from "./ed25519.ts";

/**
 * Made by a Go program with crypto/ed25519 and CBOR written by hand after RFC 8949: the key of the seed 00 01 … 1f, a token
 * and a revocation.
 */
const go = {
  key: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
  token:
    "a701781e40622f666c6565742f702f6167656e742f613a6578616d706c652e6f726702782040622f666c6565742f702f6d616368696e652f6d3a6578616d706c652e6f726703667469636b65740482a10181697469636b65742f2a2aa201816c7469636b65742f636c6f73650281676167656e742f2a0578203030303130323033303430353036303730383039306130623063306430653066061a6955b900071a6955ba2c2b7a7dc5dffa384db3a661c5f37322755aa23c88694e1fcb881db0d571d6a50d3e9c12b14ba819d7dc03ecf17e0f4b64f0f8673cec8ce0b4260ead8a7e195308",
  revocation:
    "a20181a20178203030303130323033303430353036303730383039306130623063306430653066021a6955ba2c021a6955b96430e09c56499cb2c36c9d940fab6f4636e6c3c903ebd6050b6bcb27066e9648689342dd7eb15068721ce76c6905ac618d7756f02f88fa7d5f3a7f7ac05125a003",
};
const key = ed25519Key(Buffer.from(go.key, "hex"));
const token = {
  subject: parseUserId("@b/fleet/p/agent/a:example.org"),
  machine: parseUserId("@b/fleet/p/machine/m:example.org"),
  audience: "ticket",
  grants: [
    { actions: ["ticket/**"], targets: [] },
    { actions: ["ticket/close"], targets: ["agent/*"] },
  ],
  id: "000102030405060708090a0b0c0d0e0f",
  issuedAt: 1_767_225_600,
  expiresAt: 1_767_225_900,
};
const entry = { id: token.id, expiresAt: token.expiresAt };

describe("tokens of Go and ours are the same bytes", () => {
  const verify = ed25519Verifier(key.publicKey);
  test("signing", () => {
    expect(Buffer.from(signToken(token, key.sign)).toString("hex")).toBe(go.token);
    expect(Buffer.from(signRevocation([entry], 1_767_225_700, key.sign)).toString("hex")).toBe(go.revocation);
  });
  test("checking", () => {
    const check = { verify, audience: "ticket", nowMs: token.issuedAt * 1_000, isRevoked: () => false };
    expect(checkToken(Buffer.from(go.token, "hex"), check)).toMatchObject(token);
    expect(checkRevocation(Buffer.from(go.revocation, "hex"), verify)).toEqual([entry]);
  });
});

test("a new key is two halves that belong together, and another each time", () => {
  const [first, second] = [newEd25519Key(), newEd25519Key()];
  expect(first).toHaveLength(64);
  expect(first).not.toEqual(second);
  const made = ed25519Key(first);
  const bytes = Uint8Array.of(1, 2, 3);
  expect(ed25519Verifier(made.publicKey)(bytes, made.sign(bytes))).toBe(true);
  expect(ed25519Verifier(ed25519Key(second).publicKey)(bytes, made.sign(bytes))).toBe(false);
});

test("refuses keys of another length, and halves of two keys", () => {
  expect(() => ed25519Key(new Uint8Array(32))).toThrow("64 bytes");
  expect(() => ed25519Verifier(new Uint8Array(31))).toThrow("32 bytes");
  const mixed = Buffer.concat([newEd25519Key().subarray(0, 32), newEd25519Key().subarray(32)]);
  expect(() => ed25519Key(mixed)).toThrow("do not belong together");
});
