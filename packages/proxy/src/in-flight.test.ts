import { expect, test } from "bun:test";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { rawRequest, startFixture } from "./testing/proxy-fixture.ts";

/** Uses a connection of its own: the runtime's client has the same limit as the proxy under test. */
async function open(unix: string, path: string): Promise<{ answered: string; close: () => void }> {
  const state = { answered: "", close: () => {} };
  const connection = await Bun.connect({
    unix,
    socket: {
      open: (socket) => void socket.write(`GET ${path} HTTP/1.1\r\nHost: h\r\n\r\n`),
      data(_socket, bytes) {
        state.answered += bytes.toString("latin1");
      },
    },
  });
  state.close = () => void connection.end();
  return state;
}

test("an upstream that never answers, or never ends, blocks neither the homeserver nor other upstreams", async () => {
  const homeserver = Bun.serve({ port: 0, fetch: () => Response.json({ versions: [] }) });
  const hanging = Bun.serve({ port: 0, idleTimeout: 0, fetch: () => new Promise<Response>(() => {}) });
  const first = new TextEncoder().encode("first");
  const endless = Bun.serve({
    port: 0,
    idleTimeout: 0,
    fetch: () => new Response(new ReadableStream({ start: (controller) => controller.enqueue(first) })),
  });
  const quick = Bun.serve({ port: 0, fetch: () => new Response("quick") });
  const declared = (upstream: URL) => ({ type: "http", upstream: upstream.href }) as const;
  await using proxy = await startFixture({
    matrix_homeserver_url: homeserver.url.href,
    matrix_token: "t",
    services: {
      hanging: declared(hanging.url),
      endless: declared(endless.url),
      quick: declared(quick.url),
    },
  });
  const flood = await Promise.all(
    ["hanging", "endless"].flatMap((name) =>
      Array.from({ length: 150 }, () => open(proxy.socket, `/http/${name}/`)),
    ),
  );
  const refused = () => flood.filter(({ answered }) => answered.startsWith("HTTP/1.1 502")).length;
  await waitFor(async () => (refused() === 2 * (150 - 64) ? true : undefined), {
    timeoutMs: 30_000,
    clock: systemClock,
  });
  expect(refused()).toBe(2 * (150 - 64));
  expect(flood.find(({ answered }) => answered !== "")?.answered).toContain("have no answer yet");
  for (let n = 0; n < 20; n++)
    expect(await rawRequest(proxy.socket, "GET /_matrix/client/versions HTTP/1.1", "Host: h")).toStartWith(
      "HTTP/1.1 200",
    );
  expect(await rawRequest(proxy.socket, "GET /http/quick/ HTTP/1.1", "Host: h")).toContain("quick");
  for (const { close } of flood) close();
  // Aborted requests no longer count.
  const again = await waitFor(
    async () => {
      const asked = await open(proxy.socket, "/http/endless/");
      await waitFor(async () => (asked.answered === "" ? undefined : true), {
        timeoutMs: 10_000,
        clock: systemClock,
      });
      asked.close();
      return asked.answered.startsWith("HTTP/1.1 200") ? true : undefined;
    },
    { timeoutMs: 30_000, clock: systemClock },
  );
  expect(again).toBe(true);
  for (const server of [homeserver, hanging, endless, quick]) await server.stop(true);
}, 90_000);
