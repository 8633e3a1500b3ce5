import { expect, test } from "bun:test";
import { replyTo, shortName } from "./greeter-replies.ts";

const speaker = {
  self: "@bureau/fleet/p/agent/greeter:b",
  sender: "@bureau/fleet/p/agent/code/reviewer:b",
  nowMs: Date.parse("2026-02-03T04:05:06Z"),
};

test.each([
  ["Hello there", "Hello, reviewer!"],
  ["hi", "Hello, reviewer!"],
  ["can you HELP me?", "bureau status"],
  ["Who are you?", speaker.self],
  ["what time is it", "2026-02-03 04:05:06 UTC"],
  ["run ls -l", "I do not run commands"],
  ["sudo rm -rf /", "I do not run commands"],
  ["thanks!", "You are welcome."],
  ["bye", "Goodbye, reviewer."],
  ["the weather is thick", "did not understand"],
  ["", "did not understand"],
])("%j is answered with %j", (text, part) => {
  expect(replyTo(text, speaker)).toContain(part);
});

test("people are called by the last part of their name", () => {
  expect(shortName("@admin:b")).toBe("admin");
  expect(shortName("@bureau/fleet/p/agent/a:b:8448")).toBe("a");
});
