import { expect, test } from "bun:test";
import { findingOfSpace } from "./free-space.ts";

const withInodes = (ffree: number, files: number): string => {
  const { status } = findingOfSpace("/var", { ffree, files, bavail: 1, bsize: 2 ** 40, blocks: 1 });
  return status;
};

test("a file system without free inodes fails, even with free space", () => {
  expect([withInodes(500, 1000), withInodes(50, 1000), withInodes(5, 1000)]).toEqual([
    "pass",
    "warn",
    "fail",
  ]);
});

test("a file system that does not count inodes has no inode limit", () => {
  expect(withInodes(0, 0)).toBe("pass");
});
