import { afterAll, expect, test } from "bun:test";
import { startEcho, startFixture } from "./testing/proxy-fixture.ts";

const echo = startEcho();
afterAll(() => echo[Symbol.dispose]());

/** A token endpoint that gives `token-1`, `token-2`, … and an upstream that accepts only the tokens in `valid`. */
function startAuthority(answer: Record<string, unknown> = { expires_in: 3_600 }, status = 200) {
  const forms: Record<string, string>[] = [];
  const calls: { token: string | null; body: string }[] = [];
  const revoked = new Set<string>();
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      if (new URL(request.url).pathname === "/token") {
        forms.push(Object.fromEntries(new URLSearchParams(await request.text())));
        return Response.json(
          { access_token: `token-${forms.length}`, token_type: "Bearer", ...answer },
          { status },
        );
      }
      const token = request.headers.get("authorization");
      calls.push({ token, body: await request.text() });
      return revoked.has(token ?? "") ? new Response("expired", { status: 401 }) : new Response("welcome");
    },
  });
  const url = `http://127.0.0.1:${server.port}`;
  const credential = {
    token_endpoint: `${url}/token`,
    client_id: "me",
    client_secret: "hush",
    refresh_token: "the-refresh-token",
  };
  return { url, forms, calls, revoked, credential, [Symbol.dispose]: () => void server.stop(true) };
}

let now = 1_000_000;
async function proxyOf(authority: { url: string; credential: unknown }) {
  return await startFixture(
    {
      credentials: { OAUTH: JSON.stringify({ oauth_refresh: authority.credential }) },
      services: {
        api: { upstream: authority.url, inject_headers: { Authorization: "OAUTH" }, auth_scheme: "bearer" },
      },
    },
    () => now,
  );
}

test("one exchange serves many requests, until a little before its token expires", async () => {
  using authority = startAuthority();
  await using proxy = await proxyOf(authority);
  const answers = await Promise.all(Array.from({ length: 5 }, () => proxy.ask("/http/api/x")));
  expect(await Promise.all(answers.map((answer) => answer.text()))).toEqual(new Array(5).fill("welcome"));
  expect(authority.forms).toEqual([
    {
      grant_type: "refresh_token",
      refresh_token: "the-refresh-token",
      client_id: "me",
      client_secret: "hush",
    },
  ]);
  now += 3_600_000 - 61_000;
  await proxy.ask("/http/api/x");
  expect(authority.forms).toHaveLength(1);
  now += 2_000;
  await proxy.ask("/http/api/x");
  expect(authority.forms).toHaveLength(2);
  expect(authority.calls.at(-1)?.token).toBe("Bearer token-2");
});

test("a 401 is answered by one new token and the same request again", async () => {
  using authority = startAuthority();
  await using proxy = await proxyOf(authority);
  await proxy.ask("/http/api/x");
  now += 20_000;
  authority.revoked.add("Bearer token-1");
  const answer = await proxy.ask("/http/api/x", { method: "POST", body: "the body" });
  expect(await answer.text()).toBe("welcome");
  expect(authority.calls.slice(-2)).toEqual([
    { token: "Bearer token-1", body: "the body" },
    { token: "Bearer token-2", body: "the body" },
  ]);
  // A token that is new is not replaced: the upstream means something else.
  authority.revoked.add("Bearer token-2");
  expect((await proxy.ask("/http/api/x")).status).toBe(401);
  expect(authority.forms).toHaveLength(2);
});

test("the server's next refresh token is used, and rotation of another credential keeps the access token", async () => {
  using authority = startAuthority({ expires_in: 100, refresh_token: "the-next" });
  await using proxy = await proxyOf(authority);
  await proxy.ask("/http/api/x");
  const credentials = { OAUTH: JSON.stringify({ oauth_refresh: authority.credential }), OTHER: "new" };
  expect((await proxy.admin("PUT", "/v1/admin/credentials", credentials)).status).toBe(200);
  await proxy.ask("/http/api/x");
  expect(authority.forms).toHaveLength(1);
  now += 100_000;
  await proxy.ask("/http/api/x");
  expect(authority.forms[1]?.["refresh_token"]).toBe("the-next");
});

test("a refused exchange is a 503 without any secret, and is not repeated at once", async () => {
  using authority = startAuthority({ error: "invalid_grant", detail: "the-refresh-token" }, 400);
  await using proxy = await proxyOf(authority);
  for (let i = 0; i < 3; i++) {
    const answer = await proxy.ask("/http/api/x");
    expect(answer.status).toBe(503);
    const text = await answer.text();
    expect(text).toContain('Cannot refresh credential "OAUTH"');
    expect(text).not.toMatch(/the-refresh-token|hush/u);
  }
  expect([authority.forms.length, authority.calls.length]).toEqual([1, 0]);
});

test("an invalid one reaches no upstream: it is a 503 that quotes nothing of it", async () => {
  for (const credential of [
    { token_endpoint: "http://auth.example/token", client_id: "me", refresh_token: "the-refresh-token" },
    { token_endpoint: "https://auth.example/token", refresh_token: "the-refresh-token" },
    "the-refresh-token",
  ]) {
    await using proxy = await proxyOf({ url: echo.url, credential });
    const answer = await proxy.ask("/http/api/x");
    expect(answer.status).toBe(503);
    expect(await answer.text()).not.toContain("the-refresh-token");
  }
  expect(echo.seen).toEqual([]);
});
