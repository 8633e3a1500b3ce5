import { expect, test } from "bun:test";
import { type EgressSettings, noEgressSettings } from "@bureau/os/egress";
import { askAlias, askHomeserver } from "./ask-homeserver.ts";
import type { Finding } from "./check.ts";
import { checkTable } from "./check-table.ts";
import { skewOf } from "./clock-skew.ts";
import type { HostView } from "./host-view.ts";
import { namespaceRemedies } from "./namespace-remedies.ts";

test("every check has its own id, fit for a command line, and describes its expectation and repair", () => {
  const ids = checkTable.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const { id, expected, repair, title } of checkTable) {
    expect(id).toMatch(/^[a-z][a-z0-9:@.-]+$/);
    for (const text of [expected, repair.text, title]) expect(text).not.toBe("");
  }
});

/** A homeserver whose clock is `aheadMs` ahead of ours. */
function serve(aheadMs: number) {
  return Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      const headers = { date: new Date(Date.now() + aheadMs).toUTCString() };
      const path = new URL(request.url).pathname;
      if (path.endsWith("/versions")) return Response.json({ versions: ["v1.11"] }, { headers });
      if (path.includes("secret")) return Response.json({}, { status: 403 });
      return Response.json({}, { status: path.includes("known") ? 200 : 404 });
    },
  });
}

async function clockWith(aheadMs: number): Promise<Finding> {
  const server = serve(aheadMs);
  const clock = checkTable.find(({ id }) => id === "clock");
  const host = { kind: "rootless", homeserver: () => askHomeserver(`http://127.0.0.1:${server.port}`) };
  const finding = await clock?.run(host as unknown as HostView);
  await server.stop(true);
  if (finding === undefined) throw new Error("there is no such check");
  return finding;
}

test("compares the clock with the homeserver's: accepts seconds, warns about more, fails at a minute", async () => {
  expect((await clockWith(0)).status).toBe("pass");
  expect((await clockWith(-3_000)).status).toBe("pass");
  expect((await clockWith(-20_000)).status).toBe("warn");
  expect((await clockWith(20_000)).found).toMatch(/^(19|20|21) s behind$/);
  expect((await clockWith(90_000)).status).toBe("fail");
  expect((await clockWith(-90_000)).found).toMatch(/^(89|90|91) s ahead$/);
});

test("shows the forward proxy, and reports unreadable certificates and a homeserver without TLS", async () => {
  const check = checkTable.find(({ id }) => id === "egress");
  const run = async (egress: Partial<EgressSettings>, homeserverUrl = "https://h"): Promise<Finding> => {
    const host = { egress: () => ({ ...noEgressSettings, ...egress }), identity: () => ({ homeserverUrl }) };
    const finding = await check?.run(host as unknown as HostView);
    if (finding === undefined) throw new Error("there is no such check");
    return finding;
  };
  expect(await run({})).toMatchObject({ status: "pass", found: "direct" });
  const httpsProxy = "http://egress.internal:3128";
  expect(await run({ httpsProxy, noProxy: "a,b" })).toMatchObject({
    status: "pass",
    found: `TLS through ${httpsProxy}, except to a,b`,
  });
  expect(await run({ httpsProxy }, "http://h")).toMatchObject({ status: "warn" });
  expect(await run({ caCerts: "/nowhere/ca.pem" })).toMatchObject({
    status: "fail",
    hint: expect.stringContaining("BUREAU_CA_CERTS"),
  });
});

test("a slow response does not count as a clock difference", () => {
  const second = 1_000;
  // Requested at 100 s, answered at once, and read 20 s later: the clocks agree.
  expect(Math.abs(skewOf(100 * second, 100 * second, 120 * second))).toBeLessThan(second);
  expect(skewOf(190 * second, 100 * second, 100 * second)).toBe(90_500);
});

test("detects a server that is no homeserver, and does not report an unreadable room as missing", async () => {
  const other = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("hello") });
  expect((await askHomeserver(`http://127.0.0.1:${other.port}`)).problem).toContain(
    "not as a Matrix homeserver",
  );
  await other.stop(true);
  expect((await askHomeserver(`http://127.0.0.1:${other.port}`)).problem).toBeDefined();
  const server = serve(0);
  const url = `http://127.0.0.1:${server.port}`;
  expect(await askAlias(url, "#known:x")).toBe("exists");
  expect(await askAlias(url, "#unheard:x")).toBe("missing");
  expect(await askAlias(url, "#secret:x")).toBe("unknown");
  await server.stop(true);
});

test("sets the sysctl that allows namespaces, installs AppArmor's profile, ignores unknown reasons", () => {
  const kernel = (values: Readonly<Record<string, string>>) => ({ sysctl: (path: string) => values[path] });
  expect(namespaceRemedies(kernel({ "user/max_user_namespaces": "0" }))).toMatchObject([
    { kind: "file", path: "/etc/sysctl.d/60-bureau.conf" },
    { kind: "sysctl", name: "user.max_user_namespaces", value: "15000" },
  ]);
  expect(namespaceRemedies(kernel({ "kernel/unprivileged_userns_clone": "0" }))).toMatchObject([
    { kind: "file" },
    { kind: "sysctl", name: "kernel.unprivileged_userns_clone", value: "1" },
  ]);
  expect(namespaceRemedies(kernel({ "kernel/apparmor_restrict_unprivileged_userns": "1" }))).toMatchObject([
    { kind: "file", text: expect.stringContaining("/usr/bin/bwrap flags=(unconfined)") },
    { kind: "apparmor" },
  ]);
  expect(namespaceRemedies(kernel({}))).toEqual([]);
});
