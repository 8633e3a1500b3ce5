import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Fixture, startEcho, startFixture } from "./testing/proxy-fixture.ts";

const echo = startEcho();
let proxy: Fixture;
beforeAll(async () => {
  proxy = await startFixture({
    matrix_homeserver_url: echo.url,
    matrix_token: "first-token",
    credentials: { KEY: "first-key" },
    grants: [{ actions: ["matrix/join"] }],
    services: { api: { upstream: echo.url, inject_headers: { "x-key": "KEY" } } },
  });
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  echo[Symbol.dispose]();
});

test("the admin socket serves all endpoints of the agent's socket; the agent's serves no admin endpoint", async () => {
  expect(await (await proxy.admin("GET", "/health")).json()).toEqual({ status: "ok" });
  for (const [method, path] of [
    ["GET", "services"],
    ["PUT", "authorization"],
    ["PUT", "credentials"],
    ["PUT", "directory"],
    ["PUT", "services/x"],
  ] as const)
    expect(
      (await proxy.ask(`/v1/admin/${path}`, { method, ...(method === "PUT" ? { body: "[]" } : {}) })).status,
    ).toBe(404);
});

test("lists, sets, uses and removes upstreams", async () => {
  const name = "service-llm:bureau.local";
  const encoded = encodeURIComponent(name);
  const made = await proxy.admin("PUT", `/v1/admin/services/${encoded}`, {
    upstream_url: `${echo.url}/llm/`,
  });
  expect(made.status).toBe(201);
  expect(await made.json()).toEqual({ name, upstream: `${echo.url}/llm` });
  expect(await (await proxy.admin("GET", "/v1/admin/services")).json()).toEqual([
    { name: "api", upstream: echo.url },
    { name, upstream: `${echo.url}/llm` },
  ]);
  for (const spelling of [name, encoded]) {
    await proxy.ask(`/http/${spelling}/x`);
    expect(echo.seen.at(-1)?.path).toBe("/llm/x");
  }
  expect(await (await proxy.admin("DELETE", `/v1/admin/services/${encoded}`)).json()).toEqual({
    status: "removed",
    name,
  });
  expect((await proxy.ask(`/http/${encoded}/x`)).status).toBe(404);
  expect((await proxy.admin("DELETE", `/v1/admin/services/${encoded}`)).status).toBe(404);
});

test("refuses bad input with 400 and changes nothing", async () => {
  const services = async (): Promise<unknown> => (await proxy.admin("GET", "/v1/admin/services")).json();
  const grants = async (): Promise<unknown> => (await proxy.ask("/v1/grants")).json();
  const before = [await services(), await grants()];
  for (const [path, body] of [
    ["services/api", {}],
    ["services/api", { upstream_url: "ftp://x" }],
    ["services/api", { upstream_url: "http://user:pass@x" }],
    ["services/api", { upstream_url: "http://x?key=1" }],
    ["services/api", { upstream_unix: "relative.sock" }],
    ["services/api", { upstream_url: "http://x", inject_headers: { "bad header": "K" } }],
    ["services/api", { upstream_url: "http://x", inject_headers: { Host: "K" } }],
    ["services/api", { upstream_url: "http://x", auth_scheme: "basic" }],
    ["services/matrix", { upstream_url: "http://x" }],
    ["services/a%2Fb", { upstream_url: "http://x" }],
    ["services/%2e%2e%2f", { upstream_url: "http://x" }],
    ["authorization", [{ actions: "not a list" }]],
    ["authorization", "not json"],
    ["directory", [{ localpart: "no-type" }]],
    ["credentials", { KEY: 5 }],
    ["credentials", { MATRIX_TOKEN: "two\nlines", KEY: "second" }],
  ] as const) {
    const response = await proxy.admin("PUT", `/v1/admin/${path}`, body);
    expect([path, response.status]).toEqual([path, 400]);
    expect(await response.json()).toMatchObject({ exit_code: -1, error: expect.any(String) });
  }
  expect([await services(), await grants()]).toEqual(before);
  await proxy.ask("/http/api/");
  expect(echo.seen.at(-1)?.headers["x-key"]).toBe("first-key");
});

test("an error about credentials never quotes one", async () => {
  const response = await proxy.admin("PUT", "/v1/admin/credentials", { KEY: 123456789, OTHER: ["hidden"] });
  const text = await response.text();
  expect(text).toContain("KEY");
  expect(text).not.toContain("123456789");
  expect(text).not.toContain("hidden");
});

test("replaces all grants at once", async () => {
  const join = async (): Promise<number> =>
    (await proxy.ask("/_matrix/client/v3/join/!r:b", { method: "POST", body: "{}" })).status;
  expect(await join()).toBe(200);
  expect(await (await proxy.admin("PUT", "/v1/admin/authorization", [])).json()).toEqual({
    status: "ok",
    grants: 0,
  });
  expect(await join()).toBe(403);
  await proxy.admin("PUT", "/v1/admin/authorization", [{ actions: ["matrix/join"], source: "principal" }]);
  expect(await join()).toBe(200);
});

test("replaces all credentials at once, while connections stay open", async () => {
  await proxy.ask("/_matrix/client/v3/sync");
  expect(echo.seen.at(-1)?.headers["authorization"]).toBe("Bearer first-token");
  const set = await proxy.admin("PUT", "/v1/admin/credentials", { MATRIX_TOKEN: "second-token", NEW: "n" });
  expect(await set.json()).toEqual({ status: "ok", credentials: 2 });
  await proxy.ask("/_matrix/client/v3/sync");
  expect(echo.seen.at(-1)?.headers["authorization"]).toBe("Bearer second-token");
  // KEY is gone with the old set, and the Matrix token is injected nowhere else.
  expect((await proxy.ask("/http/api/")).status).toBe(503);
  await proxy.admin("PUT", "/v1/admin/services/leak", {
    upstream_url: echo.url,
    inject_headers: { "x-token": "MATRIX_TOKEN" },
  });
  expect((await proxy.ask("/http/leak/")).status).toBe(503);
});
