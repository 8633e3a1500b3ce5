import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ProxyClient } from "./proxy-client.ts";

const folder = mkdtempSync(join(tmpdir(), "bpc-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("retries a rate-limited call when the homeserver says so", async () => {
  const answers = [
    Response.json({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 10 }, { status: 429 }),
    Response.json({ errcode: "M_LIMIT_EXCEEDED" }, { status: 429, headers: { "retry-after": "0" } }),
    Response.json({ event_id: "$sent" }),
  ];
  const bodies: string[] = [];
  const unix = join(folder, "proxy.sock");
  const server = Bun.serve({
    unix,
    async fetch(request) {
      bodies.push(await request.text());
      return answers.shift() ?? new Response(null, { status: 500 });
    },
  });
  const client = new ProxyClient(unix, new AbortController().signal);
  await client.send("!r:s", { msgtype: "m.text", body: "hello" }, "t1");
  expect(answers).toEqual([]);
  // The same transaction each time: however often it is asked, one message is sent.
  expect(new Set(bodies).size).toBe(1);
  await server.stop(true);
});
