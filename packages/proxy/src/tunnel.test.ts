import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { silentLog } from "@bureau/os/testing/silent-log";
import { rawRequest, startEcho } from "./testing/proxy-fixture.ts";
import { startTunnel } from "./tunnel.ts";

const folder = mkdtempSync("/tmp/bt-");
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let tunnels = 0;

type Tunnel = Disposable & { readonly socket: string; readonly refused: string[]; readonly asked: string[] };

/** `names`: what each name resolves to. */
async function tunnelTo(
  hosts: readonly string[],
  names: Record<string, readonly string[]> = {},
): Promise<Tunnel> {
  const socket = join(folder, `${++tunnels}.sock`);
  const refused: string[] = [];
  const asked: string[] = [];
  const bridge = await startTunnel({
    socket,
    hosts,
    log: silentLog,
    onRefused: ({ target }) => refused.push(target),
    resolve: async (name) => {
      asked.push(name);
      return names[name] ?? [];
    },
  });
  return { socket, refused, asked, [Symbol.dispose]: () => bridge[Symbol.dispose]() };
}

const connectTo = (tunnel: Tunnel, target: string): Promise<string> =>
  rawRequest(tunnel.socket, `CONNECT ${target} HTTP/1.1`, `Host: ${target}`);
const portOf = (url: string): number => Number(new URL(url).port);

describe("what the list does not have is refused with 403, the reason in the body, and noted", () => {
  const cases: [what: string, hosts: string[], target: string, names?: Record<string, string[]>][] = [
    ["any host without a list", [], "example.com:443"],
    ["another name", ["example.com"], "example.org:443"],
    ["a name that only ends alike", ["*.example.com"], "badexample.com:443"],
    ["the name above a wildcard", ["*.example.com"], "example.com:443"],
    ["another port", ["example.com"], "example.com:22"],
    ["a public address that is not listed", ["*.example.com"], "93.184.216.34:443"],
    ["loopback", ["example.com"], "127.0.0.1:80"],
    ["the metadata service", ["example.com"], "169.254.169.254:80"],
    ["loopback of IPv6", ["example.com"], "[::1]:80"],
    ["loopback that is mapped into IPv6", ["example.com"], "[::ffff:127.0.0.1]:80"],
    ["the name localhost", ["example.com"], "localhost:80"],
    ...[
      "127.0.0.1",
      "10.0.0.1",
      "172.31.255.255",
      "192.168.1.1",
      "169.254.169.254",
      "100.64.0.1",
      "0.0.0.0",
      "224.0.0.1",
      "255.255.255.255",
      "::1",
      "::",
      "fd00::1",
      "fe80::1",
      "ff02::1",
      "::ffff:10.0.0.1",
      "::ffff:7f00:1",
      "64:ff9b::7f00:1",
      "2002:7f00:1::1",
      "2001:0:7f00:1::1",
    ].map((address): [string, string[], string, Record<string, string[]>] => [
      `a listed name that resolves to ${address}`,
      ["example.com"],
      "example.com:443",
      { "example.com": [address] },
    ]),
    [
      "a listed name with one private address beside public ones",
      ["example.com"],
      "example.com:443",
      { "example.com": ["93.184.216.34", "10.0.0.1"] },
    ],
  ];
  for (const [what, hosts, target, names] of cases)
    test(what, async () => {
      using tunnel = await tunnelTo(hosts, names);
      const answer = await connectTo(tunnel, target);
      expect(answer).toMatch(/^HTTP\/1\.1 403 /u);
      expect(answer.split("\r\n\r\n")[1]).toContain(`Cannot reach ${target}`);
      expect(tunnel.refused).toEqual([target]);
    });
});

test("spellings that two programs could read differently are malformed", async () => {
  using tunnel = await tunnelTo(["*.example.com", "127.0.0.0/8"]);
  for (const target of [
    "0x7f.0.0.1:80",
    "127.1:80",
    "2130706433:80",
    "0177.0.0.1:80",
    "a.example.com@127.0.0.1:80",
    "[fe80::1%eth0]:80",
    "a.example.com:0",
    "a.example.com:99999",
    "a.example.com",
    "/etc/passwd",
  ])
    expect(await connectTo(tunnel, target)).toMatch(/^HTTP\/1\.1 400 /u);
  for (const line of [
    "GET / HTTP/1.1",
    "GET https://a.example.com/ HTTP/1.1",
    "GET http://u:p@a.example.com/ HTTP/1.1",
  ])
    expect(await rawRequest(tunnel.socket, line, "Host: a.example.com")).toMatch(/^HTTP\/1\.1 400 /u);
  expect(await rawRequest(tunnel.socket, "GET http://a.example.com/ HTTP/1.1", "Host : x")).toMatch(
    /^HTTP\/1\.1 400 /u,
  );
  expect(
    await rawRequest(tunnel.socket, `GET http://a.example.com/ HTTP/1.1`, `A: ${"x".repeat(17_000)}`),
  ).toMatch(/^HTTP\/1\.1 413 /u);
  expect(tunnel.asked).toEqual([]);
});

test("a listed private address is reached by CONNECT, and by a listed name that resolves there", async () => {
  using echo = startEcho();
  const port = portOf(echo.url);
  using tunnel = await tunnelTo([`127.0.0.0/8:${port}`, `git.internal:${port}`], {
    "git.internal": ["127.0.0.1"],
  });
  for (const host of ["127.0.0.1", "GIT.internal.", "git.internal"]) {
    const answer = await inTunnel(
      tunnel,
      `${host}:${port}`,
      "GET /inside HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    expect(answer).toStartWith("HTTP/1.1 200 Connection Established\r\n\r\nHTTP/1.1 200 OK");
  }
  expect(echo.seen.map(({ path }) => path)).toEqual(["/inside", "/inside", "/inside"]);
});

/** Opens a tunnel and sends `text` in the same write: what a client sends early is not lost. */
async function inTunnel(tunnel: Tunnel, target: string, text: string): Promise<string> {
  const done = Promise.withResolvers<string>();
  let answer = "";
  await Bun.connect({
    unix: tunnel.socket,
    socket: {
      open: (socket) => void socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n${text}`),
      data(_socket, bytes) {
        answer += bytes.toString("latin1");
      },
      close: () => done.resolve(answer),
    },
  });
  return done.promise;
}

test("a name is resolved once, and the connection goes to the address that was checked", async () => {
  using echo = startEcho();
  const port = portOf(echo.url);
  const socket = join(folder, "once.sock");
  const answers = [["127.0.0.1"], ["10.9.9.9"]];
  let asked = 0;
  using _bridge = await startTunnel({
    socket,
    hosts: [`rebind.example:${port}`, `127.0.0.1:${port}`],
    log: silentLog,
    resolve: async () => answers[asked++] ?? [],
  });
  const request = [`GET http://rebind.example:${port}/x HTTP/1.1`, "Host: other.example"];
  expect(await rawRequest(socket, ...request)).toMatch(/^HTTP\/1\.1 200 /u);
  expect(asked).toBe(1);
  expect(await rawRequest(socket, ...request)).toMatch(/^HTTP\/1\.1 403 /u);
});

test("a plain HTTP request arrives in the form for its host, without headers for the proxy", async () => {
  using echo = startEcho();
  const port = portOf(echo.url);
  using tunnel = await tunnelTo([`127.0.0.1:${port}`]);
  const answer = await rawRequest(
    tunnel.socket,
    `POST http://127.0.0.1:${port}/a?b=c HTTP/1.1`,
    "Host: elsewhere.example",
    "Proxy-Authorization: Basic eDp5",
    "Proxy-Connection: keep-alive",
    "Content-Length: 0",
    "X-Mine: 1",
  );
  expect(answer).toMatch(/^HTTP\/1\.1 200 /u);
  expect(echo.seen).toHaveLength(1);
  const [seen] = echo.seen;
  expect(seen).toMatchObject({ method: "POST", path: "/a?b=c" });
  expect(seen?.headers).toMatchObject({ host: `127.0.0.1:${port}`, "x-mine": "1", connection: "close" });
  expect(Object.keys(seen?.headers ?? {}).filter((name) => name.startsWith("proxy-"))).toEqual([]);
});

test("a host that cannot be reached is a 502 with the reason", async () => {
  using tunnel = await tunnelTo(["127.0.0.1:1", "nowhere.example"]);
  expect(await connectTo(tunnel, "127.0.0.1:1")).toMatch(
    /^HTTP\/1\.1 502 Cannot connect to tcp:127\.0\.0\.1:1/u,
  );
  expect(await connectTo(tunnel, "nowhere.example:443")).toMatch(/^HTTP\/1\.1 502 .*no address/u);
  expect(tunnel.refused).toEqual([]);
});
