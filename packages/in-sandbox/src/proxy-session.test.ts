import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseRoomId } from "@bureau/schema/refs";
import { openProxySession } from "./proxy-session.ts";

const folder = mkdtempSync(join(tmpdir(), "bps-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("retries a rate-limited call when the homeserver says so, and sends no token", async () => {
  const answers = [
    Response.json({ user_id: "@agent/a:s" }),
    Response.json({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 10 }, { status: 429 }),
    Response.json({ errcode: "M_LIMIT_EXCEEDED" }, { status: 429, headers: { "retry-after": "0" } }),
    Response.json({ event_id: "$sent" }),
  ];
  const sends: string[] = [];
  const tokens: (string | null)[] = [];
  const socket = join(folder, "proxy.sock");
  const server = Bun.serve({
    unix: socket,
    async fetch(request) {
      tokens.push(request.headers.get("authorization"));
      if (request.method === "PUT") sends.push(`${request.url} ${await request.text()}`);
      return answers.shift() ?? new Response(null, { status: 500 });
    },
  });
  const session = await openProxySession({ socket, signal: new AbortController().signal });
  expect<string>(session.userId).toBe("@agent/a:s");
  await session.sendMessage(parseRoomId("!r:s"), { msgtype: "m.text", body: "hello" }, { txnId: "t1" });
  expect(answers).toEqual([]);
  // The same transaction each time: however often it is sent, one message arrives.
  expect([sends.length, new Set(sends).size]).toEqual([3, 1]);
  expect(new Set(tokens)).toEqual(new Set([null]));
  await server.stop(true);
});
