import { expect, test } from "bun:test";
import { parseTimelineEvents, type TimelineEvent } from "@bureau/matrix/event";
import { answerCommand } from "./answer-commands.ts";

const own = "@bureau/fleet/test/machine/box:bureau.test";
const event = (changes: object = {}): TimelineEvent => {
  const content = { msgtype: "m.bureau.command", body: "x", command: "workspace.list", request_id: "r1" };
  const whole = { type: "m.room.message", sender: "@admin:bureau.test", event_id: "$1", content, ...changes };
  const [parsed] = parseTimelineEvents([whole]);
  if (parsed === undefined) throw new Error("it is no event");
  return parsed;
};

test("answers an unknown command in its thread, with the request's name", () => {
  expect(answerCommand(event(), own)).toEqual({
    msgtype: "m.bureau.command_result",
    body: 'workspace.list: error: unknown command "workspace.list"',
    status: "error",
    error: 'unknown command "workspace.list"',
    duration_ms: 0,
    request_id: "r1",
    "m.relates_to": {
      rel_type: "m.thread",
      event_id: "$1",
      is_falling_back: true,
      "m.in_reply_to": { event_id: "$1" },
    },
  });
});

test("answers nothing else: other messages, other events, this machine's own messages", () => {
  expect(answerCommand(event({ sender: own }), own)).toBeUndefined();
  expect(answerCommand(event({ type: "m.other" }), own)).toBeUndefined();
  expect(answerCommand(event({ content: { msgtype: "m.text", body: "hi" } }), own)).toBeUndefined();
  expect(answerCommand(event({ content: { msgtype: "m.bureau.command_result" } }), own)).toBeUndefined();
  const long = { msgtype: "m.bureau.command", command: "x".repeat(60_000) };
  expect(JSON.stringify(answerCommand(event({ content: long }), own)).length).toBeLessThan(1_000);
});
