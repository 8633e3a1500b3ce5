import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sandboxPaths } from "@bureau/os/layout";
import { type PrincipalName, parseFleet, parsePrincipalName } from "@bureau/schema/refs";
import { placeServices } from "./place-services.ts";
import type { SandboxHost } from "./sandbox-host.ts";

const fleet = parseFleet("b/fleet/p");
const agent = parsePrincipalName("agent/a");
const tickets = parsePrincipalName("service/tickets");
const token = (text: string) => Uint8Array.from(Buffer.from(text));
let root: string;
let host: Pick<SandboxHost, "config">;
let servers: { stop(): void }[];

beforeEach(() => {
  root = mkdtempSync("/tmp/bp-");
  const layout = { runDir: root, stateDir: root, workspaceRoot: root, cacheRoot: root };
  host = { config: { layout, fleet } } as unknown as typeof host;
  servers = [];
  mkdirSync(paths(agent).services, { recursive: true });
});
afterEach(() => {
  for (const server of servers) server.stop();
  rmSync(root, { recursive: true });
});

const paths = (name: PrincipalName) => sandboxPaths(host.config.layout, fleet, name);
function listen(name: PrincipalName): number {
  mkdirSync(paths(name).listen, { recursive: true });
  rmSync(paths(name).serviceSocket, { force: true });
  servers.push(Bun.listen({ unix: paths(name).serviceSocket, socket: { data() {} } }));
  return statSync(paths(name).serviceSocket).ino;
}
const socketInside = (name: string): number => statSync(join(paths(agent).services, name)).ino;

test("a sandbox sees exactly the sockets and tokens it was given last", () => {
  const first = listen(tickets);
  placeServices(host, agent, {
    sockets: { ticket: tickets, "ticket-http": tickets },
    tokens: { ticket: token("one") },
  });
  expect(socketInside("ticket.sock")).toBe(first);
  const file = join(paths(agent).serviceTokens, "ticket.token");
  expect(readFileSync(file, "utf8")).toBe("one");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(statSync(paths(agent).serviceTokens).mode & 0o777).toBe(0o700);

  const second = listen(tickets);
  expect(second).not.toBe(first);
  placeServices(host, agent, { sockets: { ticket: tickets }, tokens: { ticket: token("two") } });
  expect(socketInside("ticket.sock")).toBe(second);
  expect(readFileSync(file, "utf8")).toBe("two");
  expect(readdirSync(paths(agent).services).sort()).toEqual(["ticket.sock", "token"]);
  placeServices(host, agent, { sockets: {}, tokens: {} });
  expect(readdirSync(paths(agent).services)).toEqual(["token"]);
  expect(readdirSync(paths(agent).serviceTokens)).toEqual([]);
});

describe("refuses", () => {
  test.each(["../proxy", "a/b", ".hidden", "", "..", "A", "x".repeat(65)])("the name %j", (name) => {
    listen(tickets);
    expect(() => placeServices(host, agent, { sockets: { [name]: tickets }, tokens: {} })).toThrow("Invalid");
    expect(() => placeServices(host, agent, { sockets: {}, tokens: { [name]: token("t") } })).toThrow(
      "Invalid",
    );
  });

  test("a principal that is no service, whose socket would be its proxy's", () => {
    const other = parsePrincipalName("agent/other");
    expect(() => placeServices(host, agent, { sockets: { x: other }, tokens: {} })).toThrow("is no service");
  });

  test("a service that does not listen, and a file or link in the place of its socket", () => {
    const place = () => placeServices(host, agent, { sockets: { ticket: tickets }, tokens: {} });
    expect(place).toThrow("does not listen");
    mkdirSync(paths(tickets).listen, { recursive: true });
    writeFileSync(paths(tickets).serviceSocket, "");
    expect(place).toThrow("does not listen");
  });
});
