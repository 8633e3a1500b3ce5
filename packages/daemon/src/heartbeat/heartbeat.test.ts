import { expect, test } from "bun:test";
import { silentLog } from "@bureau/os/log";
import { parseEventId, parseRoomId, parseUserId } from "@bureau/schema/refs";
import { runHeartbeat } from "./heartbeat.ts";

test("checks between heartbeats whether others have replaced the machine's published state", async () => {
  const machine = parseUserId("@bureau/fleet/f/machine/m:s");
  const stop = new AbortController();
  const done: string[] = [];
  await runHeartbeat(
    {
      session: {
        putState: async () => {
          done.push("beat");
          return parseEventId("$1");
        },
      },
      machine,
      room: parseRoomId("!m:s"),
      intervalMs: 1,
      sandboxes: () => [],
      userOf: () => machine,
      async publishFacts() {
        if (done.push("facts") > 9) stop.abort();
        throw new Error("the homeserver is away");
      },
      clock: { now: () => 0, monotonic: () => 0, sleep: async () => {} },
      log: silentLog,
    },
    stop.signal,
  );
  const four = ["beat", "beat", "beat", "beat", "facts"];
  expect(done).toEqual([...four, ...four]);
});
