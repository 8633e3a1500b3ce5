import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Fixture, rawRequest, startEcho, startFixture } from "./testing/proxy-fixture.ts";

const echo = startEcho();
let proxy: Fixture;
beforeAll(async () => {
  proxy = await startFixture({
    matrix_homeserver_url: `${echo.url}/`,
    matrix_token: "principal-token",
    matrix_user_id: "@bureau/fleet/p/agent/x:b",
  });
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  echo[Symbol.dispose]();
});
const client = "/_matrix/client/v3";
const grant = (...actions: string[]) => proxy.admin("PUT", "/v1/admin/authorization", [{ actions }]);
const seenCount = (): number => echo.seen.length;

test("sends the homeserver the principal's token alone, for any identity that a client claims", async () => {
  const response = await proxy.ask(
    `${client}/sync?access_token=stolen&access%5Ftoken=stolen&a=1;access_token=stolen&user_id=@other:b&since=s1`,
    {
      headers: {
        authorization: "Bearer stolen",
        "x-http-method-override": "DELETE",
        "x-forwarded-for": "1.2.3.4",
        cookie: "session=stolen",
      },
    },
  );
  expect(response.status).toBe(200);
  const seen = echo.seen.at(-1);
  expect(seen?.path).toBe(`${client}/sync?since=s1`);
  expect(seen?.headers["authorization"]).toBe("Bearer principal-token");
  expect(JSON.stringify(seen)).not.toContain("stolen");
  expect(Object.keys(seen?.headers ?? {})).not.toContain("x-http-method-override");
});

test("answers at the root and below /http/matrix", async () => {
  for (const prefix of ["", "/http/matrix"]) {
    expect((await proxy.ask(`${prefix}${client}/account/whoami`)).status).toBe(200);
    expect((await proxy.ask(`${prefix}${client}/login`, { method: "POST" })).status).toBe(403);
  }
  expect((await proxy.ask("/http/matrix/_synapse/admin/v1/users")).status).toBe(403);
});

test("a denial names the missing grant, and a grant allows only the actions it names", async () => {
  await grant();
  const before = seenCount();
  const denied = await proxy.ask(`${client}/createRoom`, { method: "POST", body: "{}" });
  expect(denied.status).toBe(403);
  const reply = (await denied.json()) as { errcode: string; error: string };
  expect(reply.errcode).toBe("M_FORBIDDEN");
  expect(reply.error).toContain('"matrix/create-room"');
  expect(seenCount()).toBe(before);

  await grant("matrix/create-room");
  expect((await proxy.ask(`${client}/createRoom`, { method: "POST", body: "{}" })).status).toBe(200);
  expect((await proxy.ask(`${client}/join/!r:b`, { method: "POST", body: "{}" })).status).toBe(403);

  await grant("matrix/raw-api");
  expect((await proxy.ask(`${client}/search`, { method: "POST", body: "{}" })).status).toBe(200);
  expect((await proxy.ask(`${client}/rooms/!r:b/invite`, { method: "POST", body: "{}" })).status).toBe(403);

  await grant("matrix/**");
  expect((await proxy.ask(`${client}/rooms/!r:b/invite`, { method: "POST", body: "{}" })).status).toBe(200);
  for (const path of ["/login", "/register", "/account/password", "/logout"])
    expect((await proxy.ask(`${client}${path}`, { method: "POST", body: "{}" })).status).toBe(403);
});

test("an expired grant opens nothing", async () => {
  let now = Date.parse("2026-01-01T00:00:00Z");
  await using timed = await startFixture(
    {
      matrix_homeserver_url: echo.url,
      matrix_token: "t",
      grants: [{ actions: ["matrix/join"], expires_at: "2026-01-01T01:00:00Z" }],
    },
    () => now,
  );
  const join = async (): Promise<number> =>
    (await timed.ask(`${client}/join/!r:b`, { method: "POST", body: "{}" })).status;
  expect(await join()).toBe(200);
  now += 3_600_000;
  expect(await join()).toBe(403);
});

test("refuses ambiguous raw targets, or checks the path that they resolve to", async () => {
  await grant("matrix/**");
  const before = seenCount();
  for (const target of [
    `${client}/sync/../login`,
    `${client}/sync/%2e%2e/login`,
    `${client}\\login`,
    `http://elsewhere${client}/login`,
    `//x/..${client}/login`,
    `${client}//login`,
    `${client}/%6cogin`,
    `${client}/sync/..%2flogin`,
    `${client}/login#/sync`,
    "/http/matrix/../matrix/_matrix/client/v3/login",
    "/http/matrix/_matrix/client/v3/rooms/!a:b/..%2f..%2f..%2flogin",
  ]) {
    const answer = await rawRequest(proxy.socket, `GET ${target} HTTP/1.1`, "Host: h");
    expect(answer).toMatch(/^HTTP\/1\.1 (400|403|404) /u);
  }
  for (const host of [`h${client}`, "h/http/matrix", "a?b", "h#", "@"]) {
    const answer = await rawRequest(proxy.socket, `GET ${client}/login HTTP/1.1`, `Host: ${host}`);
    expect(answer).toMatch(/^HTTP\/1\.1 (400|403|404) /u);
  }
  expect(seenCount()).toBe(before);
});

test("refuses a request smuggled behind two lengths", async () => {
  const before = seenCount();
  const answer = await rawRequest(
    proxy.socket,
    `POST ${client}/rooms/!r:b/leave HTTP/1.1`,
    "Host: h",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
  );
  expect(answer).toMatch(/^HTTP\/1\.1 400 /u);
  expect(seenCount()).toBe(before);
});

test("without a token the answer is 503, without a homeserver 502, both in Matrix's form", async () => {
  await using bare = await startFixture({ matrix_homeserver_url: echo.url });
  const missing = await bare.ask(`${client}/sync`);
  expect(missing.status).toBe(503);
  expect(await missing.json()).toHaveProperty("errcode");
  await using away = await startFixture({
    matrix_homeserver_url: "http://127.0.0.1:1",
    matrix_token: "secret-t",
  });
  for (const path of [`${client}/sync`, "/v1/matrix/whoami"]) {
    const response = await away.ask(path);
    expect(response.status).toBe(502);
    const text = await response.text();
    expect(text).toContain("M_UNKNOWN");
    expect(text).not.toContain("secret-t");
  }
});
