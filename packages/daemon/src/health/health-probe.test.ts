import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { action, type CborServer, serveCbor } from "@bureau/os/cbor-server";
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import { silentLog } from "@bureau/os/testing/silent-log";
import { parseFleet, parsePrincipalName } from "@bureau/schema/refs";
import { object } from "valibot";
import { type CheckPlan, checkPlan } from "./health-check.ts";
import { openHealthProbe } from "./health-probe.ts";

const fleet = parseFleet("bureau/fleet/test");
const account = parsePrincipalName("service/a");
let root: string;
let layout: Layout;
beforeEach(() => {
  root = mkdtempSync("/tmp/bp-");
  layout = { runDir: root, stateDir: root, workspaceRoot: root, cacheRoot: root };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const paths = () => sandboxPaths(layout, fleet, account);
const ask = (check: CheckPlan): Promise<string | undefined> =>
  openHealthProbe(layout, fleet)(account, check, new AbortController().signal);
const overHttp = checkPlan({ endpoint: "/http/web/health", interval_seconds: 1, timeout_seconds: 1 });
const overSocket = checkPlan({ type: "socket", interval_seconds: 1, timeout_seconds: 1 });

const service = (answer: () => Promise<unknown>): Promise<CborServer> => {
  mkdirSync(paths().listen, { recursive: true });
  return serveCbor({
    listen: { path: join(paths().listen, "service.sock"), mode: 0o600 },
    actions: { health: action(object({}), answer) },
    log: silentLog,
  });
};

test("over http only the status 200 of the proxy's answer is healthy", async () => {
  mkdirSync(dirname(paths().adminSocket), { recursive: true });
  let status = 200;
  const asked: string[] = [];
  await using _server = Bun.serve({
    unix: paths().adminSocket,
    fetch(request) {
      asked.push(new URL(request.url).pathname);
      return new Response(null, { status, headers: { location: "/elsewhere" } });
    },
  });
  expect(await ask(overHttp)).toBeUndefined();
  for (const other of [204, 302, 404, 502]) {
    status = other;
    expect(await ask(overHttp)).toBe(`/http/web/health answered ${other}`);
  }
  expect(new Set(asked)).toEqual(new Set(["/http/web/health"]));
});

test("without a proxy it is unhealthy", async () => {
  expect(await ask(overHttp)).toBeString();
});

test("a service reports its health over its socket", async () => {
  expect(await ask(overSocket)).toBe("nothing listens on /run/bureau/listen/service.sock");
  let health: object = { healthy: true };
  await using _server = await service(async () => health);
  expect(await ask(overSocket)).toBeUndefined();
  health = { healthy: false, reason: "no disk" };
  expect(await ask(overSocket)).toBe("no disk");
  health = { fine: "yes" };
  expect(await ask(overSocket)).toContain("service response to health");
});

test("a service that does not answer in time is unhealthy", async () => {
  mkdirSync(paths().listen, { recursive: true });
  const server = createServer(() => {}).listen(join(paths().listen, "service.sock"));
  expect(await ask(overSocket)).toBe("no answer within 1 s");
  server.close();
});

test("does not follow a link in the sandbox's folder to another socket", async () => {
  await using _server = await service(async () => ({ healthy: true }));
  const other = parsePrincipalName("service/b");
  const { listen } = sandboxPaths(layout, fleet, other);
  mkdirSync(listen, { recursive: true });
  symlinkSync(join(paths().listen, "service.sock"), join(listen, "service.sock"));
  const answer = await openHealthProbe(layout, fleet)(other, overSocket, new AbortController().signal);
  expect(answer).toBe("/run/bureau/listen/service.sock is not a socket");
});
