import { afterAll, beforeAll, expect, test } from "bun:test";
import { createServer } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { type Fixture, rawRequest, startEcho, startFixture } from "./testing/proxy-fixture.ts";

const echo = startEcho();
let proxy: Fixture;
beforeAll(async () => {
  proxy = await startFixture({
    credentials: { KEY: "the-key", BROKEN: "two\r\nlines" },
    services: {
      api: { upstream: `${echo.url}/v1/`, inject_headers: { "X-Api-Key": "KEY" }, strip_headers: ["Cookie"] },
      bearer: {
        upstream: echo.url,
        inject_headers: { authorization: "KEY", "x-key": "KEY" },
        auth_scheme: "Bearer",
      },
      missing: { upstream: echo.url, inject_headers: { "X-Api-Key": "ABSENT" } },
      broken: { upstream: echo.url, inject_headers: { "X-Api-Key": "BROKEN" } },
      away: { upstream: "http://127.0.0.1:1", inject_headers: { "X-Api-Key": "KEY" } },
    },
  });
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  echo[Symbol.dispose]();
});

/** Declares an upstream for one test. */
const declare = async (name: string, upstream_url: string): Promise<void> => {
  expect((await proxy.admin("PUT", `/v1/admin/services/${name}`, { upstream_url })).status).toBe(201);
};

test("a request reaches the upstream below its prefix, byte for byte, with the credential injected", async () => {
  const response = await proxy.ask("/http/api/items/a%20b?q=1&x=%2F", {
    method: "POST",
    body: "hello",
    headers: { "x-api-key": "mine", Cookie: "a=b", "x-other": "kept" },
  });
  expect(response.status).toBe(200);
  const seen = echo.seen.at(-1);
  expect(seen?.method).toBe("POST");
  expect(seen?.path).toBe("/v1/items/a%20b?q=1&x=%2F");
  expect(seen?.body).toBe("hello");
  expect(seen?.headers["x-api-key"]).toBe("the-key");
  expect(seen?.headers["x-other"]).toBe("kept");
  expect(seen?.headers["cookie"]).toBeUndefined();
  expect(seen?.headers["host"]).toBe(new URL(echo.url).host);
});

test("a bearer scheme prefixes Authorization and nothing else", async () => {
  await proxy.ask("/http/bearer/", { headers: { authorization: "Bearer mine" } });
  expect(echo.seen.at(-1)?.headers["authorization"]).toBe("Bearer the-key");
  expect(echo.seen.at(-1)?.headers["x-key"]).toBe("the-key");
});

test("a missing or unusable credential gives 503, with header and key and never a value", async () => {
  const before = echo.seen.length;
  const missing = await proxy.ask("/http/missing/");
  expect(missing.status).toBe(503);
  const text = await missing.text();
  expect(text).toContain('"X-Api-Key"');
  expect(text).toContain('"ABSENT"');
  expect(missing.headers.get("content-type")).toStartWith("text/plain");
  const broken = await proxy.ask("/http/broken/");
  expect(broken.status).toBe(503);
  expect(await broken.text()).not.toContain("lines");
  expect(echo.seen.length).toBe(before);
});

test("does not forward hop-by-hop headers, or headers that Connection names", async () => {
  const server = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (head) => {
      heads.push(head.toString());
      socket.end(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Secret-Hop\r\nX-Secret-Hop: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
      );
    });
  });
  const heads: string[] = [];
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP server");
  await declare("raw", `http://127.0.0.1:${address.port}`);
  const answer = await rawRequest(
    proxy.socket,
    "GET /http/raw/ HTTP/1.1",
    "Host: h",
    "Connection: x-mine",
    "X-Mine: 1",
    "Proxy-Authorization: Basic eA==",
    "TE: trailers",
    "Keep-Alive: 5",
    "X-Passed: 1",
  );
  server.close();
  expect(answer).toContain("200 OK");
  expect(answer).toMatch(/x-kept: 1/iu);
  for (const name of ["x-secret-hop", "keep-alive: timeout", "proxy-authenticate"])
    expect(answer.toLowerCase()).not.toContain(name);
  const head = (heads[0] ?? "").toLowerCase();
  expect(head).toContain("x-passed: 1");
  for (const name of ["x-mine", "proxy-authorization", "te:", "keep-alive: 5"])
    expect(head).not.toContain(name);
});

test("returns a redirect, and does not follow it with the credential", async () => {
  const server = Bun.serve({ port: 0, fetch: () => Response.redirect(`${echo.url}/elsewhere`, 302) });
  await declare("redirecting", server.url.href);
  const before = echo.seen.length;
  const response = await proxy.ask("/http/redirecting/x", { redirect: "manual" });
  expect(response.status).toBe(302);
  expect(response.headers.get("location")).toBe(`${echo.url}/elsewhere`);
  expect(echo.seen.length).toBe(before);
  await server.stop(true);
});

test("passes compressed bytes unchanged, and requests no compression unless the caller does", async () => {
  const packed = Bun.gzipSync(Buffer.from("hello hello hello"));
  const asked: (string | null)[] = [];
  const server = Bun.serve({
    port: 0,
    fetch(request) {
      asked.push(request.headers.get("accept-encoding"));
      return new Response(packed, { headers: { "content-encoding": "gzip" } });
    },
  });
  await declare("packed", server.url.href);
  const answer = await rawRequest(proxy.socket, "GET /http/packed/ HTTP/1.1", "Host: h");
  expect(asked).toEqual(["identity"]);
  expect(answer.toLowerCase()).toContain("content-encoding: gzip");
  expect(answer.slice(answer.indexOf("\r\n\r\n") + 4)).toBe(Buffer.from(packed).toString("latin1"));
  await server.stop(true);
});

test("keeps the headers of HEAD and of statuses without a body", async () => {
  const server = createServer((request, response) => {
    if (request.method === "HEAD") response.writeHead(200, { "content-length": "1234" });
    else response.writeHead(request.url === "/none" ? 204 : 304, { etag: '"e"' });
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP server");
  await declare("bare", `http://127.0.0.1:${address.port}`);
  expect(await rawRequest(proxy.socket, "HEAD /http/bare/ HTTP/1.1", "Host: h")).toMatch(
    /content-length: 1234/iu,
  );
  expect((await proxy.ask("/http/bare/none")).status).toBe(204);
  const cached = await proxy.ask("/http/bare/other");
  expect([cached.status, cached.headers.get("etag")]).toEqual([304, '"e"']);
  server.close();
});

test("passes an event before the stream ends, and ends the stream upstream when the caller disconnects", async () => {
  const gone = Promise.withResolvers<void>();
  const server = Bun.serve({
    port: 0,
    idleTimeout: 0,
    fetch(request) {
      request.signal.addEventListener("abort", () => gone.resolve());
      const stream = new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode("data: first\n\n")),
      });
      return new Response(stream, { headers: { "content-type": "text/event-stream" } });
    },
  });
  await declare("events", server.url.href);
  const leave = new AbortController();
  const response = await proxy.ask("/http/events/", { signal: leave.signal });
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const reader = response.body?.getReader();
  const first = await reader?.read();
  expect(new TextDecoder().decode(first?.value)).toBe("data: first\n\n");
  leave.abort();
  await gone.promise;
  await server.stop(true);
});

test("passes the first part of an answer of known length before the rest arrives", async () => {
  const received = Promise.withResolvers<void>();
  const server = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst ");
      void received.promise.then(() => socket.end("later"));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP server");
  await declare("parts", `http://127.0.0.1:${address.port}`);
  const response = await proxy.ask("/http/parts/");
  const reader = response.body?.getReader();
  expect(new TextDecoder().decode((await reader?.read())?.value)).toBe("first ");
  received.resolve();
  expect(new TextDecoder().decode((await reader?.read())?.value)).toBe("later");
  server.close();
});

test("ends the request upstream when the caller disconnects before the answer", async () => {
  const arrived = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  const server = Bun.serve({
    port: 0,
    fetch(request) {
      request.signal.addEventListener("abort", () => gone.resolve());
      arrived.resolve();
      return new Promise<Response>(() => {});
    },
  });
  await declare("slow", server.url.href);
  const leave = new AbortController();
  const asked = proxy.ask("/http/slow/", { signal: leave.signal }).catch((error: Error) => error.name);
  await arrived.promise;
  leave.abort();
  expect(await asked).toBe("AbortError");
  await gone.promise;
  await server.stop(true);
});

test("breaks off the answer to the caller when it breaks off upstream, with either framing", async () => {
  for (const framing of [
    "Content-Length: 100\r\n\r\nabc",
    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
  ]) {
    const server = createTcpServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.write(`HTTP/1.1 200 OK\r\n${framing}`, () => socket.resetAndDestroy());
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("expected a TCP server");
    await declare("cut", `http://127.0.0.1:${address.port}`);
    const whole = await proxy.ask("/http/cut/").then(
      async (response) =>
        response.status === 200 &&
        (await response.text().then(
          () => true,
          () => false,
        )),
      () => false,
    );
    expect(whole).toBe(false);
    server.close();
  }
});

test("streams an upload while it is still being sent", async () => {
  const server = Bun.serve({
    port: 0,
    async fetch(request) {
      let bytes = 0;
      for await (const chunk of request.body ?? []) {
        bytes += chunk.length;
        received.resolve();
      }
      return new Response(String(bytes));
    },
  });
  const received = Promise.withResolvers<void>();
  await declare("upload", server.url.href);
  let part = 0;
  const body = new ReadableStream({
    async pull(controller) {
      part++;
      // The second part is sent only after the upstream has the first.
      if (part === 2) await received.promise;
      if (part > 33) controller.close();
      else controller.enqueue(new Uint8Array(1024 * 1024));
    },
  });
  const response = await proxy.ask("/http/upload/", { method: "POST", body });
  expect(await response.text()).toBe(String(33 * 1024 * 1024));
  await server.stop(true);
});

test("no encoded path leaves an upstream's prefix", async () => {
  const before = echo.seen.length;
  for (const path of [
    "/http/api/..%2fadmin",
    "/http/api/%2e%2e%2fadmin",
    "/http/api/x%2f..%2f..%2fadmin",
    "/http/api/%252e%252e/",
  ])
    expect((await proxy.ask(path)).status).toBe(400);
  // The runtime resolves these to paths outside of the upstream's prefix.
  for (const path of ["/http/api/../admin", "/http/api/%2e%2e/admin"]) {
    const answer = await rawRequest(proxy.socket, `GET ${path} HTTP/1.1`, "Host: h");
    expect(answer).toMatch(/^HTTP\/1\.1 404 /u);
  }
  expect(echo.seen.length).toBe(before);
});

test("refuses TRACE, WebSockets that the upstream does not accept, undeclared and unreachable upstreams", async () => {
  const trace = await rawRequest(proxy.socket, "TRACE /http/api/ HTTP/1.1", "Host: h");
  expect(trace).toMatch(/^HTTP\/1\.1 501 /u);
  expect(trace).not.toContain("the-key");
  const upgrade = await rawRequest(
    proxy.socket,
    "GET /http/api/ HTTP/1.1",
    "Host: h",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
  );
  expect(upgrade).toMatch(/^HTTP\/1\.1 502 /u);
  expect(upgrade).not.toContain("the-key");
  expect((await proxy.ask("/http/nothing/x")).status).toBe(404);
  const away = await proxy.ask("/http/away/x");
  expect(away.status).toBe(502);
  expect(await away.text()).not.toContain("the-key");
});

test("an upstream may listen on a unix socket, such as another principal's", async () => {
  await using behind = await startFixture();
  await proxy.admin("PUT", "/v1/admin/services/local", {
    upstream_url: "http://localhost/health",
    upstream_unix: behind.socket,
  });
  expect(await (await proxy.ask("/http/local")).status).toBe(404);
  await proxy.admin("PUT", "/v1/admin/services/local", { upstream_unix: behind.socket });
  expect(await (await proxy.ask("/http/local/health")).json()).toEqual({ status: "ok" });
});

test("basic:USER makes the credential that user's password", async () => {
  await proxy.admin("PUT", "/v1/admin/services/basic", {
    upstream_url: echo.url,
    inject_headers: { Authorization: "KEY" },
    auth_scheme: "basic:__token__",
  });
  await proxy.ask("/http/basic/x", { headers: { authorization: "Basic mine" } });
  expect(echo.seen.at(-1)?.headers["authorization"]).toBe(`Basic ${btoa("__token__:the-key")}`);
});
