import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Fixture, startEcho, startFixture } from "./testing/proxy-fixture.ts";

const echo = startEcho();
const homeserver = Bun.serve({
  port: 0,
  fetch: (request) =>
    request.url.includes("missing")
      ? Response.json({ errcode: "M_NOT_FOUND", error: "no such alias" }, { status: 404 })
      : Response.json({ room_id: "!found:b" }),
});
let proxy: Fixture;
beforeAll(async () => {
  proxy = await startFixture({
    matrix_homeserver_url: echo.url,
    matrix_token: "t",
    matrix_user_id: "@bureau/fleet/p/agent/x:b:8448",
    grants: [{ actions: ["matrix/join", "matrix/create-room", "matrix/invite"] }],
  });
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  echo[Symbol.dispose]();
  await homeserver.stop(true);
});

const room = encodeURIComponent("!r:b");
test.each([
  ["GET whoami", "GET /account/whoami"],
  ["GET resolve?alias=%23a%2Fb:b", "GET /directory/room/%23a%2Fb%3Ab"],
  [`GET state?room=${room}&type=m.x&key=a%2Fb:c`, `GET /rooms/!r%3Ab/state/m.x/a%2Fb%3Ac`],
  [`GET state?room=${room}&type=m.x`, "GET /rooms/!r%3Ab/state/m.x"],
  ["GET joined-rooms", "GET /joined_rooms"],
  [`GET room-state?room=${room}`, "GET /rooms/!r%3Ab/state"],
  [`GET room-members?room=${room}`, "GET /rooms/!r%3Ab/members"],
  [`GET messages?room=${room}&from=t1&limit=5`, "GET /rooms/!r%3Ab/messages?from=t1&limit=5&dir=b"],
  ["GET display-name?user=@a:b", "GET /profile/%40a%3Ab/displayname"],
  ["GET sync?since=s&timeout=0&filter=1&full_state=true", "GET /sync?since=s&timeout=0&filter=1"],
  ["GET presence?user=@a:b", "GET /presence/%40a%3Ab/status"],
])("%s asks the homeserver for %s", async (call, asked) => {
  const [method = "", path = ""] = call.split(" ");
  expect((await proxy.ask(`/v1/matrix/${path}`, { method })).status).toBe(200);
  const seen = echo.seen.at(-1);
  expect(`${seen?.method} ${seen?.path.replace("/_matrix/client/v3", "")}`).toBe(asked);
});

test("thread-messages asks for the thread's relations", async () => {
  await proxy.ask(`/v1/matrix/thread-messages?room=${room}&thread=$e&limit=3`);
  expect(echo.seen.at(-1)?.path).toBe("/_matrix/client/v1/rooms/!r%3Ab/relations/%24e/m.thread?limit=3");
});

test.each([
  [
    "state",
    { room: "!r:b", event_type: "m.x", state_key: "k", content: { a: 1 } },
    "PUT /rooms/!r%3Ab/state/m.x/k",
    { a: 1 },
  ],
  ["room", { name: "n" }, "POST /createRoom", { name: "n" }],
  ["join", { room: "#a:b" }, "POST /join/%23a%3Ab", {}],
  ["invite", { room: "!r:b", user_id: "@y:b" }, "POST /rooms/!r%3Ab/invite", { user_id: "@y:b" }],
  [
    "presence",
    { presence: "online", status_msg: "here" },
    "PUT /presence/%40bureau%2Ffleet%2Fp%2Fagent%2Fx%3Ab%3A8448/status",
    { presence: "online", status_msg: "here" },
  ],
])("POST %s of %j becomes %s", async (name, body, asked, sent) => {
  const response = await proxy.ask(`/v1/matrix/${name}`, { method: "POST", body: JSON.stringify(body) });
  expect(response.status).toBe(200);
  const seen = echo.seen.at(-1);
  expect(`${seen?.method} ${seen?.path.replace("/_matrix/client/v3", "")}`).toBe(asked);
  expect(JSON.parse(seen?.body ?? "")).toEqual(sent);
});

test("a message without a transaction gets a new one; one with a transaction keeps it", async () => {
  const send = async (body: object): Promise<string> => {
    await proxy.ask("/v1/matrix/message", { method: "POST", body: JSON.stringify(body) });
    return echo.seen.at(-1)?.path ?? "";
  };
  const message = { room: "!r:b", content: { msgtype: "m.text", body: "hi" } };
  expect(await send(message)).toMatch(/\/send\/m\.room\.message\/[0-9a-f-]{36}$/u);
  expect(await send(message)).not.toBe(await send(message));
  expect(await send({ ...message, transaction_id: "mine" })).toEndWith("/mine");
});

test("resolves an alias before use; when that fails, returns the homeserver's errcode with 502", async () => {
  await using other = await startFixture({ matrix_homeserver_url: homeserver.url.href, matrix_token: "t" });
  expect((await other.ask("/v1/matrix/room-state?room=%23there:b")).status).toBe(200);
  const failed = await other.ask("/v1/matrix/room-state?room=%23missing:b");
  expect(failed.status).toBe(502);
  expect(await failed.json()).toMatchObject({ errcode: "M_NOT_FOUND" });
});

test("denies calls without their grant, in the wire's format", async () => {
  await using bare = await startFixture({ matrix_homeserver_url: echo.url, matrix_token: "t" });
  const before = echo.seen.length;
  for (const [name, body] of [
    ["room", {}],
    ["join", { room: "!r:b" }],
    ["invite", { room: "!r:b", user_id: "@y:b" }],
    [
      "state",
      { room: "!r:b", event_type: "m.room.member", state_key: "@y:b", content: { membership: "invite" } },
    ],
  ] as const) {
    const response = await bare.ask(`/v1/matrix/${name}`, { method: "POST", body: JSON.stringify(body) });
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({ errcode: "M_FORBIDDEN" });
  }
  expect(echo.seen.length).toBe(before);
});

test("names in a call cannot leave their segment of the path", async () => {
  const before = echo.seen.length;
  for (const path of [
    "state?room=..&type=..",
    "room-state?room=!r:b%2F..%2F..%2F..%2Flogin",
    "display-name?user=..%2F..%2Flogin%3F",
    "state?room=!r:b&type=m.x%2F..%2F..",
  ])
    expect((await proxy.ask(`/v1/matrix/${path}`)).status).toBeOneOf([400, 403]);
  expect(echo.seen.length).toBe(before);
});

test("answers 400 to bad input, 413 to too much input, 404 to an unknown endpoint", async () => {
  const post = (body: string | ReadableStream): Promise<Response> =>
    proxy.ask("/v1/matrix/message", { method: "POST", body });
  expect((await post("not json")).status).toBe(400);
  expect((await post('{"room":5}')).status).toBe(400);
  expect((await post(`"${"x".repeat(70_000)}"`)).status).toBe(413);
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(16_384)) });
  expect((await post(endless)).status).toBe(413);
  expect((await proxy.ask("/v1/matrix/nothing")).status).toBe(404);
  expect((await proxy.ask("/v1/matrix/state?room=!r:b")).status).toBe(400);
  expect((await proxy.ask("/nothing")).status).toBe(404);
  const cli = await proxy.ask("/v1/proxy", { method: "POST", body: "{}" });
  expect(cli.status).toBe(404);
  expect(await cli.json()).toMatchObject({ exit_code: -1, stdout: "", stderr: "" });
});

test("returns identity, grants and health; answers 503 without an identity", async () => {
  expect(await (await proxy.ask("/health")).json()).toEqual({ status: "ok" });
  expect(await (await proxy.ask("/v1/identity")).json()).toEqual({
    user_id: "@bureau/fleet/p/agent/x:b:8448",
    server_name: "b:8448",
    observe_socket: "",
  });
  expect(await (await proxy.ask("/v1/grants")).json()).toEqual([
    { actions: ["matrix/join", "matrix/create-room", "matrix/invite"] },
  ]);
  await using bare = await startFixture();
  expect((await bare.ask("/v1/identity")).status).toBe(503);
  expect(await (await bare.ask("/v1/grants")).json()).toEqual([]);
});

test("lists only services that a grant targets, with the requested filter", async () => {
  const entry = (localpart: string, endpoints: string[], capabilities: string[] = []) => ({
    localpart,
    principal: `@bureau/fleet/p/${localpart}:b`,
    machine: "@bureau/fleet/p/machine/m:b",
    endpoints,
    capabilities,
  });
  const entries = [
    entry("service/tickets", ["cbor"], ["dependency-graph"]),
    entry("service/llm", ["cbor", "http"]),
    entry("service/secret/vault", ["cbor"]),
  ];
  const set = await proxy.admin("PUT", "/v1/admin/directory", entries);
  expect(await set.json()).toEqual({ status: "ok", services: 3 });
  const seen = async (query = ""): Promise<string[]> => {
    const found = (await (await proxy.ask(`/v1/services${query}`)).json()) as { localpart: string }[];
    return found.map(({ localpart }) => localpart);
  };
  expect(await seen()).toEqual([]);
  await proxy.admin("PUT", "/v1/admin/authorization", [
    { actions: ["service/discover"], targets: ["service/*"] },
  ]);
  expect(await seen()).toEqual(["service/tickets", "service/llm"]);
  await proxy.admin("PUT", "/v1/admin/authorization", [
    { actions: ["service/discover"], targets: ["service/tickets"] },
    { actions: ["service/discover"], targets: ["service/llm"], expires_at: "2026-01-01T00:00:00Z" },
    { actions: ["service/register"], targets: ["**"] },
  ]);
  expect(await seen()).toEqual(["service/tickets"]);
  await proxy.admin("PUT", "/v1/admin/authorization", [{ actions: ["service/**"], targets: ["service/*"] }]);
  expect(await seen("?protocol=http")).toEqual(["service/llm"]);
  expect(await seen("?capability=dependency-graph")).toEqual(["service/tickets"]);
});
