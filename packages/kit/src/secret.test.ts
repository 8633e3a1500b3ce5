import { expect, test } from "bun:test";
import { inspect } from "node:util";
import { createLog } from "@bureau/os/log";
import { Secret } from "./secret.ts";

test("a secret shows only when it is revealed", () => {
  const secret = new Secret("hunter2");
  expect(secret.reveal()).toBe("hunter2");
  const lines: string[] = [];
  createLog("t", { level: "info", write: (line) => lines.push(line) }).info("test.done", "x", {
    secret,
    deep: [{ secret }],
  });
  const shown = [
    String(secret),
    `${secret}`,
    JSON.stringify({ secret, list: [secret] }),
    inspect({ secret }),
    Bun.inspect({ secret }),
    JSON.stringify(Object.entries(secret)),
    JSON.stringify({ ...secret }),
    new Error(`no ${secret}`).message,
    ...lines,
  ];
  for (const text of shown) expect(text).not.toContain("hunter2");
  expect(lines[0]).toContain("[secret]");
});
