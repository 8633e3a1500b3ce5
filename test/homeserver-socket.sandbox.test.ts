/** Programs reach the embedded homeserver over a socket that no other program can listen on. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { machineSessionFile } from "@bureau/os/layout";
import { listensOnTcp } from "@bureau/os/process-table";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

type Status = { homeserver: { pid: number; url: string; listen: string | null }; machine: { state: string } };

const running = useBureau();
const status = () => running().json<Status>("status");

/** Listening TCP ports of this host that a process of the instance has. */
function portsOf(pid: number): number[] {
  const ports = ["tcp", "tcp6"].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, "utf8")
      .split("\n")
      .flatMap((line) => (/^\s*\d+: \S+:([0-9A-F]{4}) \S+ 0A /u.exec(line)?.[1] ?? []) as string | string[]),
  );
  return [...new Set(ports.map((hex) => Number.parseInt(hex, 16)))].filter((port) => listensOnTcp(pid, port));
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("") });
  const port = server.port ?? 0;
  await server.stop(true);
  return port;
}

const versions = async (port: number): Promise<number> =>
  (await fetch(`http://127.0.0.1:${port}/_matrix/client/versions`, { keepalive: false })).status;

describe("the embedded homeserver", () => {
  test("answers on a socket in a private folder, and no program of the instance listens on a port", async () => {
    const { homeserver } = await status();
    const socket = homeserver.url.replace(/^unix:/u, "");
    expect(socket).toBe(running().layout.homeserverSocket);
    expect(statSync(dirname(socket)).mode & 0o777).toBe(0o700);
    expect(homeserver.listen).toBeNull();
    for (const { pid } of running().processes()) expect(portsOf(pid)).toEqual([]);
    expect(running().session().homeserver).toBe(homeserver.url);
  });

  test("keeps a long poll open beyond the runtime's own limit of 10 s", async () => {
    const session = running().session();
    const { nextBatch } = await session.sync({ timeoutMs: 0 });
    const filter = { presence: { types: [] }, room: { rooms: [] } };
    const began = performance.now();
    await session.sync({ since: nextBatch, timeoutMs: 11_000, filter });
    expect(performance.now() - began).toBeGreaterThan(10_500);
  }, 60_000);

  test("answers other clients only at the requested address, until it changes", async () => {
    const port = await freePort();
    const before = await status();
    await running().json("up", "--listen", `127.0.0.1:${port}`);
    expect(await versions(port)).toBe(200);
    expect(() =>
      Bun.serve({ hostname: "127.0.0.1", port, reusePort: true, fetch: () => new Response("") }),
    ).toThrow();
    expect((await status()).homeserver).toMatchObject({
      url: before.homeserver.url,
      listen: `127.0.0.1:${port}`,
    });
    await running().json("up");
    expect(await versions(port)).toBe(200);
    await running().json("up", "--listen", "none");
    await expect(versions(port)).rejects.toThrow();
    expect((await status()).homeserver.listen).toBeNull();
  }, 60_000);

  test("works for its own programs when another program has the port, and up reports it", async () => {
    const stranger = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("{}") });
    const port = stranger.port ?? 0;
    const { code, stderr } = await running().run("up", "--listen", `127.0.0.1:${port}`);
    expect(code).toBe(1);
    expect(stderr).toContain("the port is in use");
    await running().json("agent", "list");
    await stranger.stop(true);
    await eventually(async () => ((await versions(port).catch(() => 0)) === 200 ? true : undefined));
    await running().json("up", "--listen", "none");
  }, 60_000);

  test.each(["6167", "127.0.0.1:0", "unix:/a/b"])("refuses to listen on %p", async (address) => {
    const { code, stderr } = await running().run("up", "--listen", address);
    expect(code).toBe(2);
    expect(stderr).toContain("HOST:PORT");
  });
});

test("the proxies' network settings come from up, are kept, and change only while they are down", async () => {
  const proxy = ["--https-proxy", "http://127.0.0.1:3128"];
  expect(await running().run("up", ...proxy)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("bureau down"),
  });
  for (const wrong of [
    ["--https-proxy", "ftp://h"],
    ["--ca-certs", "/nowhere"],
  ])
    expect((await running().run("up", ...wrong)).code).toBe(2);
  await running().json("down");
  await running().json("up", ...proxy);
  const { checks } = await running().json<{ checks: { id: string; found: string }[] }>(
    ...["machine", "doctor", "--check", "egress"],
  );
  expect(JSON.stringify(checks)).toContain("TLS through http://127.0.0.1:3128");
}, 90_000);

test("an instance made with a port keeps working; nothing talks to another program on that port", async () => {
  const { layout, json, run } = running();
  await json("down");
  let heard = 0;
  const stranger = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch() {
      heard++;
      return Response.json({});
    },
  });
  const address = `unix:${layout.homeserverSocket}`;
  const files = [layout.instanceFile, layout.sessionFile, layout.credentialFile, machineSessionFile(layout)];
  for (const file of files) {
    const text = readFileSync(file, "utf8");
    expect(text).toContain(address);
    writeFileSync(file, text.replaceAll(address, `http://127.0.0.1:${stranger.port}`));
  }
  const refused = await run("agent", "list");
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain("is down");
  await json("up");
  await json("agent", "list");
  expect((await status()).machine.state).toBe("online");
  for (const file of files) expect(readFileSync(file, "utf8")).toContain(address);
  expect(heard).toBe(0);
  await stranger.stop(true);
  await json("down");
  expect(existsSync(layout.homeserverSocket)).toBe(false);
}, 90_000);
