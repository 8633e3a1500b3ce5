import { expect, test } from "bun:test";
import { BureauError } from "@bureau/kit/errors";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { RefusalBatch } from "@bureau/schema/proxy-wire";
import { parsePrincipalName, parseUserId } from "@bureau/schema/refs";
import { RefusalCollector } from "./refusal-collector.ts";

const demo = parsePrincipalName("agent/demo");
const user = parseUserId("@b/fleet/p/agent/demo:s");
const refusal = {
  point: "proxy/matrix",
  action: "matrix/join",
  reason: "no matching grant",
  detail: "POST /join\u0000",
  count: 7,
  first: "a",
  last: "b",
};

function collect(answer: () => RefusalBatch) {
  const seen: unknown[] = [];
  let asked = 0;
  const collector = new RefusalCollector({
    proxies: {
      async refusals() {
        asked++;
        await Bun.sleep(1);
        return answer();
      },
      dropRefusals: async (_, batch) => void seen.push(batch),
    },
    denied: (record, counted) => void seen.push([record, counted]),
    userOf: () => user,
    log: silentLog,
  });
  return { collector, seen, asked: () => asked };
}

test("records every refusal as its principal's, then drops the batch", async () => {
  const { collector, seen } = collect(() => ({ batch: "00000000-1", refusals: [refusal] }));
  await collector.collect(demo);
  expect(seen).toEqual([
    [
      {
        actor: user,
        action: "matrix/join",
        target: "",
        reason: "no matching grant",
        enforcement_point: "proxy/matrix",
        detail: "POST /join\u{fffd}",
      },
      { count: 7, first: "a", last: "b", batch: "00000000-1" },
    ],
    "00000000-1",
  ]);
});

test("answers pokes that come while it asks with one more request", async () => {
  const { collector, asked } = collect(() => ({ batch: "00000000-1", refusals: [] }));
  await Promise.all(Array.from({ length: 100 }, () => collector.collect(demo)));
  await Bun.sleep(10);
  expect(asked()).toBe(2);
});

test("records nothing of a proxy of an earlier build, which has no such list", async () => {
  const { collector, seen } = collect(() => {
    throw new BureauError("not-found", "it answered 404");
  });
  await collector.collect(demo);
  expect(seen).toEqual([]);
});
