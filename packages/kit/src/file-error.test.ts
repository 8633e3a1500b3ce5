import { expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { describeErrno, fileError, unlessOfFile } from "./file-error.ts";

const thrownBy = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("it did not throw");
};

test("a failed system call on a file becomes a sentence with the path, not a bug", () => {
  for (const [act, code, message] of [
    [() => readFileSync("/none"), "not-found", 'Cannot open "/none": there is no such file or folder'],
    [
      () => readFileSync("/etc/passwd/x"),
      "not-found",
      'Cannot open "/etc/passwd/x": a part of the path is a file',
    ],
    [
      () => mkdirSync("/etc/passwd"),
      "conflict",
      'Cannot make the folder "/etc/passwd": a file has that name',
    ],
  ] as const)
    expect(unlessOfFile(thrownBy(act))).toMatchObject({ code, message: expect.stringContaining(message) });
});

test("every other failure stays as it is", () => {
  for (const other of [
    new Error("bug"),
    "text",
    undefined,
    Object.assign(new Error("x"), { code: "ENOENT" }),
  ])
    expect(unlessOfFile(other)).toBe(other);
});

test("an errno without a sentence appears by name", () => {
  expect(describeErrno("EWEIRD")).toBe("EWEIRD");
  expect(fileError("Cannot read it", Object.assign(new Error("w"), { code: "EWEIRD" })).message).toBe(
    "Cannot read it: w",
  );
});
