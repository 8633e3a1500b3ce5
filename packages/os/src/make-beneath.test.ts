import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { makeBeneath } from "./make-beneath.ts";
import { removeTree } from "./remove-tree.ts";

let folder: string;
let root: string;
let outside: string;
beforeEach(() => {
  folder = mkdtempSync("/tmp/bk-");
  root = join(folder, "root");
  outside = join(folder, "outside");
  for (const path of [root, outside]) mkdirSync(path);
});
afterEach(() => removeTree(folder));

test("creates missing folders and files, and finds them again", () => {
  for (const make of [true, false]) {
    expect(makeBeneath(root, "a/b/c", { kind: "folder", make })).toBeUndefined();
    expect(makeBeneath(root, "a/f", { kind: "file", make })).toBeUndefined();
    expect(makeBeneath(root, "", { kind: "folder", make })).toBeUndefined();
  }
  expect(lstatSync(join(root, "a/b/c")).isDirectory()).toBe(true);
  expect(lstatSync(join(root, "a/f")).isFile()).toBe(true);
});

test("creates nothing when it only looks", () => {
  expect(makeBeneath(root, "a/b", { kind: "folder", make: false })).toEqual({ part: "a", why: "missing" });
  expect(readdirSync(root)).toEqual([]);
});

test("follows no link, at any position and with any target", () => {
  mkdirSync(join(root, "inner"));
  symlinkSync(outside, join(root, "absolute"));
  symlinkSync("../outside", join(root, "relative"));
  symlinkSync("inner", join(root, "within"));
  symlinkSync(join(outside, "new"), join(root, "dangling"));
  for (const name of ["absolute", "relative", "within", "dangling"]) {
    const obstacle = { part: name, why: "a link" } as const;
    expect(makeBeneath(root, `${name}/x`, { kind: "folder", make: true })).toEqual(obstacle);
    expect(makeBeneath(root, name, { kind: "folder", make: true })).toEqual(obstacle);
    expect(makeBeneath(root, name, { kind: "file", make: true })).toEqual(obstacle);
  }
  expect([readdirSync(outside), readdirSync(join(root, "inner"))]).toEqual([[], []]);
});

test("replaces no existing file", () => {
  writeFileSync(join(root, "file"), "kept");
  mkdirSync(join(root, "folder"));
  expect(makeBeneath(root, "file/x", { kind: "folder", make: true })).toEqual({
    part: "file",
    why: "no folder",
  });
  expect(makeBeneath(root, "folder", { kind: "file", make: true })).toEqual({
    part: "folder",
    why: "no file",
  });
  expect(existsSync(join(root, "file"))).toBe(true);
});
