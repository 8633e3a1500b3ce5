import { expect, test } from "bun:test";
import { RunningSubsystems } from "./start-subsystems.ts";
import { type DaemonContext, subsystem } from "./subsystem.ts";

const context = {} as DaemonContext;

const first = subsystem({
  name: "first",
  needs: {},
  start: () => ({ part: { one: 1 }, views: { state: () => ({ seen: true }) } }),
});
const second = subsystem({
  name: "second",
  needs: { first: true },
  start: ({ first }: { first: { one: number } }) => ({ part: { two: first.one + 1 } }),
});

test("a subsystem gets the parts of the subsystems it needs, and no others", async () => {
  let given: object = {};
  const third = subsystem({
    name: "third",
    needs: { second: true },
    start(needs: { second: { two: number } }) {
      given = needs;
      return { part: needs.second.two + 1 };
    },
  });
  const parts = await new RunningSubsystems().start([first, second, third], context);
  expect(parts.third).toBe(3);
  expect(Object.keys(given)).toEqual(["second"]);
});

test("a list out of order does not compile", () => {
  const running = new RunningSubsystems();
  // @ts-expect-error "second" needs "first", which comes after it.
  const wrong = () => running.start([second, first], context);
  expect(wrong).toBeFunction();
});

test("every loop begins after every start, and stop reaches every subsystem", async () => {
  const events: string[] = [];
  const noting = (name: string) =>
    subsystem({
      name,
      needs: {},
      start() {
        events.push(`start ${name}`);
        return {
          part: undefined,
          loops: [async () => void events.push(`loop ${name}`)],
          stop: () => void events.push(`stop ${name}`),
        };
      },
    });
  const running = new RunningSubsystems();
  await running.start([noting("a"), noting("b")], context);
  await Promise.all(running.run(new AbortController().signal));
  await running.stop();
  expect(events).toEqual(["start a", "start b", "loop a", "loop b", "stop a", "stop b"]);
});

test("a failed start stops the subsystems that were started before", async () => {
  let stopped = false;
  const opened = subsystem({
    name: "opened",
    needs: {},
    start: () => ({
      part: undefined,
      stop() {
        stopped = true;
      },
    }),
  });
  const broken = subsystem({
    name: "broken",
    needs: {},
    start(): never {
      throw new Error("no session");
    },
  });
  await expect(new RunningSubsystems().start([opened, broken], context)).rejects.toThrow("no session");
  expect(stopped).toBe(true);
});

test("lists views by subsystem, without empty ones", async () => {
  const running = new RunningSubsystems();
  await running.start([first, second], context);
  expect(running.viewsOf("state")).toEqual({ first: { seen: true } });
  expect(running.viewsOf("plan")).toEqual({});
});
