import { expect, test } from "bun:test";
import { lastLines } from "../terminal/tmux.ts";
import { describeExit, exitOutputOf, tail } from "./exit-account.ts";

test.each([
  [0, "exited with 0"],
  [3, "exited with 3"],
  [127, "exited with 127"],
  [128, "exited with 128"],
  [129, "killed by SIGHUP"],
  [137, "killed by SIGKILL"],
  [143, "killed by SIGTERM"],
  [255, "exited with 255"],
])("code %d reads %s", (code, description) => {
  expect(describeExit(code)).toBe(description);
});

test("the tail of a text begins at a line and fits the byte limit, with characters of any length", () => {
  const text = Array.from({ length: 100 }, (_, index) => `line ${index} äöü`).join("\n");
  const cut = tail(text, 100);
  expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(100);
  expect(cut).toStartWith("line ");
  expect(cut).toEndWith("line 99 äöü");
  expect(tail("short", 100)).toBe("short");
});

test("an account has at most 500 lines and 16 KiB", () => {
  expect(exitOutputOf("x\n".repeat(9_000)).split("\n").length).toBeLessThanOrEqual(500);
  expect(Buffer.byteLength(exitOutputOf(`${"y".repeat(200)}\n`.repeat(500)))).toBeLessThanOrEqual(16 * 1024);
});

test("a screen ends with the program's output: no blank lines and no note that the pane is dead", () => {
  const screen = "one\n\ntwo\n\n\n\nPane is dead (status 1, Mon Nov 23 19:00:00 2026)\n\n";
  expect(lastLines(screen, 10)).toBe("one\n\ntwo");
  expect(lastLines(screen, 1)).toBe("two");
  expect(lastLines("\n\n", 5)).toBe("");
  expect(lastLines("Pane is dead said I\nx", 5)).toBe("Pane is dead said I\nx");
});
