import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openSigningKey } from "./open-signing-key.ts";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync("/tmp/bk-");
  file = join(folder, "token-signing-key");
});
afterEach(() => rmSync(folder, { recursive: true }));

test("makes a key that only we can read, and keeps it", () => {
  const made = openSigningKey(file);
  expect(statSync(file)).toMatchObject({ size: 64 });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readFileSync(`${file}.pub`).equals(made.publicKey)).toBe(true);
  expect(statSync(`${file}.pub`).mode & 0o777).toBe(0o644);
  expect(openSigningKey(file).publicKey).toEqual(made.publicKey);
});

test("a second start writes nothing, as on a full disk", () => {
  openSigningKey(file);
  const inodes = () => [file, `${file}.pub`].map((path) => statSync(path).ino);
  const before = inodes();
  openSigningKey(file);
  expect(inodes()).toEqual(before);
  writeFileSync(`${file}.pub`, "another");
  const { publicKey } = openSigningKey(file);
  expect(readFileSync(`${file}.pub`).equals(publicKey)).toBe(true);
});

test("a broken key ends the start and stays as it is", () => {
  writeFileSync(file, "broken");
  expect(() => openSigningKey(file)).toThrow("64 bytes, not 6");
  expect(readFileSync(file, "utf8")).toBe("broken");
});
