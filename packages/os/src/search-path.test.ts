import { expect, test } from "bun:test";
import { absoluteEntries, useAbsolutePath } from "./search-path.ts";

test("leaves out entries that mean the current folder", () => {
  expect(absoluteEntries("/usr/bin:.:bin::/bin:")).toBe("/usr/bin:/bin");
  expect(absoluteEntries("")).toBe("");
  const env = { PATH: ":/bin", HOME: "." };
  useAbsolutePath(env);
  expect(env).toEqual({ PATH: "/bin", HOME: "." });
});
