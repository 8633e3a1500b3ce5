/** The real program, killed: acknowledged events survive, and tokens continue at their position. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { at, Caller, encode, eventsAt, registerUser } from "../../../test/contract/matrix-caller.ts";

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

type Program = {
  readonly url: string;
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly startMs: number;
};

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "bhs-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "token"), "the-token\n");
  return folder;
}

function spawnProgram(args: string[]): Bun.Subprocess<"ignore", "pipe", "pipe"> {
  const command = runtimeCommand(join(import.meta.dir, "main.ts"), ...args);
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  cleanups.push(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
  return child;
}

const flags = (folder: string, listen = "127.0.0.1:0"): string[] => [
  ...["--data-dir", join(folder, "data"), "--server-name", "bureau.local"],
  ...["--listen", listen, "--registration-token-file", join(folder, "token")],
];

async function startProgram(folder: string, listen?: string): Promise<Program> {
  const began = performance.now();
  const child = spawnProgram(flags(folder, listen));
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  if (value === undefined)
    throw new Error(`the program did not start: ${await new Response(child.stderr).text()}`);
  const line = JSON.parse(new TextDecoder().decode(value)) as { ready: boolean; url: string };
  expect(line.ready).toBe(true);
  return { url: line.url, child, startMs: performance.now() - began };
}

const serverAt = (url: string) => ({
  url,
  serverName: "bureau.local",
  registrationToken: "the-token",
  stop: async () => {},
});

test("every acknowledged event survives kill -9, and a sync token made before still works", async () => {
  const folder = makeFolder();
  const first = await startProgram(folder);
  const user = await registerUser(serverAt(first.url));
  const api = new Caller(first.url, user.token);
  const roomId = String((await api.ok("POST", "/createRoom", {}))["room_id"]);
  const since = String((await api.ok("GET", "/sync"))["next_batch"]);
  const acknowledged: string[] = [];
  let killed = false;
  const writer = async (name: string): Promise<void> => {
    for (let n = 0; !killed; n++) {
      try {
        const path = `/rooms/${encode(roomId)}/send/m.room.message/${name}${n}`;
        acknowledged.push(String((await api.ok("PUT", path, { body: `${name}${n}` }))["event_id"]));
      } catch {
        return; // The connection died with the program.
      }
      if (acknowledged.length >= 60 && !killed) {
        killed = true;
        first.child.kill("SIGKILL");
      }
    }
  };
  await Promise.all([writer("a"), writer("b"), writer("c")]);
  await first.child.exited;

  const second = await startProgram(folder);
  const again = new Caller(second.url, user.token);
  const filter = encode(JSON.stringify({ room: { timeline: { limit: 1000 } } }));
  const body = await again.ok("GET", `/sync?since=${encode(since)}&filter=${filter}`);
  const seen = eventsAt(body, "rooms", "join", roomId, "timeline", "events").map((event) => event.event_id);
  expect(acknowledged.length).toBeGreaterThanOrEqual(60);
  expect(seen).toEqual(expect.arrayContaining(acknowledged));
  expect(new Set(seen).size).toBe(seen.length);
});

test("a transaction ID stays idempotent across a restart", async () => {
  const folder = makeFolder();
  const first = await startProgram(folder);
  const user = await registerUser(serverAt(first.url));
  const api = new Caller(first.url, user.token);
  const roomId = String((await api.ok("POST", "/createRoom", {}))["room_id"]);
  const path = `/rooms/${encode(roomId)}/send/m.room.message/once`;
  const eventId = (await api.ok("PUT", path, { body: "x" }))["event_id"];
  first.child.kill("SIGKILL");
  await first.child.exited;
  const second = await startProgram(folder);
  expect((await new Caller(second.url, user.token).ok("PUT", path, { body: "x" }))["event_id"]).toBe(eventId);
});

test("SIGTERM ends a long poll with an answer and the program with 0, before the poll's time is up", async () => {
  const folder = makeFolder();
  const program = await startProgram(folder);
  const user = await registerUser(serverAt(program.url));
  const api = new Caller(program.url, user.token);
  const since = String((await api.ok("GET", "/sync"))["next_batch"]);
  const poll = api.call("GET", `/sync?since=${encode(since)}&timeout=60000`);
  // A request that is answered after the poll was sent on another connection shows that the server has read both.
  await api.ok("GET", "/account/whoami");
  const began = performance.now();
  program.child.kill("SIGTERM");
  expect((await poll).status).toBe(200);
  expect(await program.child.exited).toBe(0);
  expect(performance.now() - began).toBeLessThan(30_000);
});

test("two programs cannot share a data directory", async () => {
  const folder = makeFolder();
  await startProgram(folder);
  const second = spawnProgram(flags(folder));
  expect(await second.exited).toBe(1);
  expect(await new Response(second.stderr).text()).toContain(
    "another homeserver runs on this data directory",
  );
});

test("names a missing or bad flag, prints the usage and exits with 2", async () => {
  const folder = makeFolder();
  const missing = spawnProgram(["--data-dir", folder]);
  expect(await missing.exited).toBe(2);
  expect(await new Response(missing.stderr).text()).toContain("Flag --server-name is missing");
  const unknown = spawnProgram([...flags(folder), "--colour", "red"]);
  expect(await unknown.exited).toBe(2);
  expect(await new Response(unknown.stderr).text()).toContain("--colour");
  const port = spawnProgram(flags(folder, "127.0.0.1:99999"));
  expect(await port.exited).toBe(2);
  expect(await new Response(port.stderr).text()).toContain("99999");
});

test("listens on a unix socket too, even where a killed program left its socket; the database is private", async () => {
  const folder = makeFolder();
  const path = join(folder, "hs.sock");
  const program = await startProgram(folder, `unix:${path}`);
  expect(program.url).toBe(`unix:${path}`);
  const response = await fetch("http://localhost/_matrix/client/versions", { unix: path });
  expect(at(await response.json(), "versions")).toBeArray();
  program.child.kill("SIGKILL");
  await program.child.exited;
  const again = await startProgram(folder, `unix:${path}`);
  expect((await fetch("http://localhost/_matrix/client/versions", { unix: path })).status).toBe(200);
  expect(statSync(join(folder, "data", "homeserver.db")).mode & 0o777).toBe(0o600);
  expect(again.url).toBe(program.url);
});
