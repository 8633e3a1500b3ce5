import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { digestOf as digestOfHost } from "@bureau/os/digest";
import { digestOf, randomHex, sha256Hex } from "./digest.ts";

test("a digest equals that of the platform, and of the programs of a machine", () => {
  const text = "bureau-admin-password:tökén";
  expect(sha256Hex(text)).toBe(createHash("sha256").update(text).digest("hex"));
  const value = { b: [1, { c: "ü" }], a: null };
  expect(digestOf(value)).toBe(digestOfHost(value));
});

test("random hex has two digits a byte and does not repeat", () => {
  expect(randomHex(32)).toMatch(/^[0-9a-f]{64}$/);
  expect(randomHex(32)).not.toBe(randomHex(32));
});
