import { expect, test } from "bun:test";
import { mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { KeptSocket } from "./kept-socket.ts";
import { startFixture } from "./testing/proxy-fixture.ts";

/** Answers every request with `text`; counts its connections. */
async function listen(path: string, text: string): Promise<{ server: Server; connections: () => number }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.on("error", () => {});
    socket.on("data", () => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { server, connections: () => connections };
}

test("requests without a body share one connection to an upstream's socket, others have their own", async () => {
  const folder = mkdtempSync("/tmp/bpk-");
  const path = join(folder, "s.sock");
  const upstream = await listen(path, "answer");
  await using proxy = await startFixture();
  await proxy.admin("PUT", "/v1/admin/services/api", { upstream_unix: path });
  for (let n = 0; n < 20; n++) expect(await (await proxy.ask("/http/api/")).text()).toBe("answer");
  expect(upstream.connections()).toBe(1);
  for (let n = 0; n < 3; n++) await (await proxy.ask("/http/api/", { method: "POST", body: "b" })).text();
  expect(upstream.connections()).toBe(4);
  upstream.server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("the next request reaches the process that replaced the socket, while the previous one still runs", async () => {
  const folder = mkdtempSync("/tmp/bpk-");
  const path = join(folder, "s.sock");
  const moved = join(folder, "moved.sock");
  await using proxy = await startFixture();
  const declare = () => proxy.admin("PUT", "/v1/admin/services/api", { upstream_unix: path });
  const ask = async () => await (await proxy.ask("/http/api/")).text();
  await declare();
  const first = await listen(path, "first");
  expect(await ask()).toBe("first");
  renameSync(path, moved);
  const second = await listen(path, "second");
  expect(await ask()).toBe("second");
  await declare();
  expect(await ask()).toBe("second");
  rmSync(path);
  expect((await proxy.ask("/http/api/")).status).toBe(502);
  renameSync(moved, path);
  expect(await ask()).toBe("first");
  first.server.close();
  second.server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("repeats a request without a body when the upstream closes the connection it would reuse", async () => {
  const folder = mkdtempSync("/tmp/bpk-");
  const path = join(folder, "s.sock");
  const requests: string[] = [];
  const server = createServer((socket) => {
    let answered = false;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      requests.push(bytes.toString().split(" ")[0] ?? "");
      if (answered) socket.destroy();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      answered = true;
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await using proxy = await startFixture();
  await proxy.admin("PUT", "/v1/admin/services/api", { upstream_unix: path });
  for (const method of ["GET", "GET", "POST", "DELETE"])
    expect((await proxy.ask("/http/api/", { method })).status).toBe(200);
  expect(requests).toEqual(["GET", "GET", "GET", "POST", "DELETE"]);
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("every spelling of a socket's path names the same file, and is used for one file only", async () => {
  const folder = mkdtempSync("/tmp/bpk-");
  const path = join(folder, "s.sock");
  const socket = new KeptSocket(path);
  const used = new Set<string>();
  for (let n = 0; n < 8; n++) {
    const { server, connections } = await listen(path, "x");
    const { unix = "", keepalive } = socket.optionsFor(true);
    expect(keepalive).toBe(true);
    expect(used.has(unix)).toBe(false);
    used.add(unix);
    expect(socket.optionsFor(true).unix).toBe(unix);
    await (await fetch("http://h/", { unix })).text();
    expect(connections()).toBe(1);
    server.close();
    rmSync(path, { force: true });
  }
  expect(socket.optionsFor(true)).toEqual({ unix: path, keepalive: false });
  rmSync(folder, { recursive: true, force: true });
});

test("a socket that cannot be looked at is out of reach, and no fault of the proxy", async () => {
  const folder = mkdtempSync("/tmp/bpk-");
  const path = join(folder, "s.sock");
  symlinkSync(path, path);
  await using proxy = await startFixture();
  await proxy.admin("PUT", "/v1/admin/services/api", { upstream_unix: path });
  expect((await proxy.ask("/http/api/")).status).toBe(502);
  rmSync(folder, { recursive: true, force: true });
});
