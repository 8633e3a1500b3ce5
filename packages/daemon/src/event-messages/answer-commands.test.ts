import { expect, test } from "bun:test";
import { parseTimelineEvents, type TimelineEvent } from "@bureau/matrix/event";
import { answerCommands } from "./answer-commands.ts";
import type { EventMessage } from "./event-message.ts";

const own = "@bureau/fleet/test/machine/box:bureau.test";
const event = (changes: object = {}): TimelineEvent => {
  const content = { msgtype: "m.bureau.command", body: "x", command: "workspace.list", request_id: "r1" };
  const whole = { type: "m.room.message", sender: "@admin:bureau.test", event_id: "$1", content, ...changes };
  const [parsed] = parseTimelineEvents([whole]);
  if (parsed === undefined) throw new Error("it is no event");
  return parsed;
};

/** The only answer to `event`; undefined when there is none. */
function answerTo(event: TimelineEvent): EventMessage | undefined {
  const answers: EventMessage[] = [];
  answerCommands([event], own, (answer) => answers.push(answer));
  expect(answers.length).toBeLessThan(2);
  return answers[0];
}

test("answers an unknown command in its thread, with the request's name", () => {
  expect(answerTo(event())).toEqual({
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
  expect(answerTo(event({ sender: own }))).toBeUndefined();
  expect(answerTo(event({ type: "m.other" }))).toBeUndefined();
  expect(answerTo(event({ content: { msgtype: "m.text", body: "hi" } }))).toBeUndefined();
  expect(answerTo(event({ content: { msgtype: "m.bureau.command_result" } }))).toBeUndefined();
  const long = { msgtype: "m.bureau.command", command: "x".repeat(60_000) };
  expect(JSON.stringify(answerTo(event({ content: long }))).length).toBeLessThan(1_000);
});
