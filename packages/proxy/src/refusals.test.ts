import { expect, test } from "bun:test";
import type { RefusalBatch } from "@bureau/schema/proxy-wire";
import { Refusals } from "./refusals.ts";
import { startFixture } from "./testing/proxy-fixture.ts";

const refused = (action: string) => ({ point: "proxy/matrix", action, reason: "no matching grant" });
const counts = ({ refusals }: RefusalBatch) => refusals.map(({ action, count }) => `${action} ${count}`);

test("counts equal refusals, and gives a batch again until it is dropped", () => {
  let now = Date.UTC(2026, 11, 1);
  using refusals = new Refusals(
    () => {},
    () => now++,
  );
  for (let n = 0; n < 1_000; n++) refusals.note({ ...refused("matrix/join"), detail: `POST /join/${n}` });
  const first = refusals.give();
  expect(first.refusals).toEqual([
    {
      ...refused("matrix/join"),
      detail: "POST /join/0",
      count: 1_000,
      first: "2026-12-01T00:00:00.000Z",
      last: "2026-12-01T00:00:00.999Z",
    },
  ]);
  refusals.note(refused("matrix/invite"));
  expect(refusals.give()).toBe(first);
  expect(refusals.drop("00000000-9")).toBe(false);
  expect(refusals.drop(first.batch)).toBe(true);
  const second = refusals.give();
  expect(second.batch).not.toBe(first.batch);
  expect(counts(second)).toEqual(["matrix/invite 1"]);
});

test("limits the kinds of refusals and their text, and keeps the count", () => {
  using refusals = new Refusals(
    () => {},
    () => 0,
  );
  for (let n = 0; n < 10_000; n++) refusals.note({ ...refused(`act/${n}`), detail: "x".repeat(100_000) });
  const batch = refusals.give();
  expect(batch.refusals).toHaveLength(65);
  expect(batch.refusals.at(-1)).toMatchObject({ action: "**", count: 10_000 - 64 });
  expect(JSON.stringify(batch).length).toBeLessThan(40_000);
});

test("pokes after a refusal, once for a burst, and not without one", async () => {
  let pokes = 0;
  using refusals = new Refusals(() => pokes++, Date.now);
  await Bun.sleep(5);
  expect(pokes).toBe(0);
  for (let n = 0; n < 100; n++) refusals.note(refused("a"));
  await Bun.sleep(20);
  for (let n = 0; n < 100; n++) refusals.note(refused("a"));
  await Bun.sleep(20);
  expect(pokes).toBe(1);
});

test("the proxy notes denied Matrix requests and unknown upstreams, for the admin socket alone", async () => {
  await using proxy = await startFixture({
    matrix_homeserver_url: "http://127.0.0.1:1",
    matrix_token: "t",
    services: { known: { upstream: "http://127.0.0.1:1", inject_headers: {}, strip_headers: [] } },
  });
  for (let n = 0; n < 3; n++)
    await (await proxy.ask("/v1/matrix/room", { method: "POST", body: "{}" })).arrayBuffer();
  await (await proxy.ask("/_matrix/client/v3/logout?access_token=secret", { method: "POST" })).arrayBuffer();
  expect((await proxy.ask("/http/elsewhere/x")).status).toBe(404);
  await (await proxy.ask("/http/known/x")).arrayBuffer();
  await (await proxy.ask("/no/such/path")).arrayBuffer();
  expect((await proxy.ask("/v1/admin/refusals")).status).toBe(404);
  const batch = (await (await proxy.admin("GET", "/v1/admin/refusals")).json()) as RefusalBatch;
  expect(batch.refusals).toMatchObject([
    { point: "proxy/matrix", action: "matrix/create-room", reason: "no matching grant", count: 3 },
    { point: "proxy/matrix", action: "matrix/raw-api", detail: "POST /_matrix/client/v3/logout", count: 1 },
    { point: "proxy/upstream", action: "upstream/elsewhere", count: 1 },
  ]);
  expect(JSON.stringify(batch)).not.toContain("secret");
  expect((await proxy.admin("DELETE", "/v1/admin/refusals/00000000-9")).status).toBe(404);
  expect((await proxy.admin("DELETE", `/v1/admin/refusals/${batch.batch}`)).status).toBe(200);
  expect(await (await proxy.admin("GET", "/v1/admin/refusals")).json()).toMatchObject({ refusals: [] });
});
