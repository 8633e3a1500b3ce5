import { expect, test } from "bun:test";
import { withField } from "./template-edit.ts";

test("sets a field by its path, and keeps all others", () => {
  const content = { command: ["a"], health_check: { type: "socket", interval_seconds: 1 }, ours: 1 };
  expect(withField(content, "health_check.interval_seconds", 5)).toEqual({
    ...content,
    health_check: { type: "socket", interval_seconds: 5 },
  });
  expect(withField({}, "environment_variables.PORT", "1")).toEqual({ environment_variables: { PORT: "1" } });
  expect(content.health_check.interval_seconds).toBe(1);
});

test("removes a field, present or not", () => {
  expect(withField({ a: 1, b: { c: 2, d: 3 } }, "b.c", undefined)).toEqual({ a: 1, b: { d: 3 } });
  expect(withField({ a: 1 }, "b.c", undefined)).toEqual({ a: 1 });
});

test("refuses an invalid path of a field", () => {
  for (const path of ["", "a..b", "__proto__.x", "a.__proto__", "a.b.c.d.e.f.g.h.i"])
    expect(() => withField({}, path, 1)).toThrow("not the path of a field");
  expect(() => withField({ command: ["a"] }, "command.0", "b")).toThrow('"command" holds no fields');
});
