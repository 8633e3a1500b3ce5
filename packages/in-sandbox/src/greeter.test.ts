/** The greeter's own process, behind a real proxy, in front of the embedded homeserver. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { registerWithToken } from "@bureau/matrix/auth";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { silentLog } from "@bureau/os/testing/silent-log";
import { startProxy } from "@bureau/proxy/proxy";
import { ProxyStartSchema } from "@bureau/schema/proxy-wire";
import type { RoomId, UserId } from "@bureau/schema/refs";
import { type EmbeddedHomeserver, startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import * as v from "valibot";

const folder = mkdtempSync("/tmp/bg-");
const socket = join(folder, "proxy.sock");
const payload = join(folder, "payload.json");
let homeserver: EmbeddedHomeserver;
let person: MatrixSession;
let greeterUser: UserId;
let proxyConfig: v.InferOutput<typeof ProxyStartSchema>;
let proxy: AsyncDisposable;
const running: Bun.Subprocess[] = [];

beforeAll(async () => {
  homeserver = await startEmbeddedHomeserver();
  const account = async (username: string) => {
    const made = await registerWithToken({
      fetch: egressFetch,
      homeserver: homeserver.url,
      username,
      password: "a password",
      registrationToken: homeserver.registrationToken,
    });
    if (made.inUse) throw new Error(`${username} exists`);
    return made;
  };
  const greeter = await account("bureau/fleet/p/agent/greeter");
  greeterUser = greeter.userId;
  person = new MatrixSession({
    fetch: egressFetch,
    homeserver: homeserver.url,
    ...(await account("person")),
  });
  proxyConfig = v.parse(ProxyStartSchema, {
    principal: "agent/greeter",
    socket_path: socket,
    admin_socket_path: join(folder, "admin.sock"),
    matrix_homeserver_url: homeserver.url,
    matrix_token: greeter.token,
    matrix_user_id: greeter.userId,
    grants: [{ actions: ["matrix/join"] }],
  });
  proxy = await startProxy(proxyConfig, { log: silentLog });
});
afterEach(async () => {
  for (const child of running.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await homeserver[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const newRoom = (): Promise<RoomId> => person.createRoom({ preset: "private_chat", invite: [greeterUser] });

function startGreeter(fields: Record<string, unknown>) {
  writeFileSync(payload, JSON.stringify(fields));
  const child = Bun.spawn(runtimeCommand(join(import.meta.dir, "greeter-main.ts")), {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, BUREAU_PROXY_SOCKET: socket, BUREAU_PAYLOAD_FILE: payload },
  });
  running.push(child);
  return { child, printed: linesOf(child.stdout) };
}

/** Waits for a line with `part`; lines before it are passed over. */
function linesOf(stream: ReadableStream<Uint8Array>) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  return async (part: string): Promise<string> => {
    for (;;) {
      const end = text.indexOf("\n");
      if (end >= 0) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        if (line.includes(part)) return line;
        continue;
      }
      const { value, done } = await reader.read();
      if (done) throw new Error(`it ended before it printed "${part}"`);
      text += decoder.decode(value, { stream: true });
    }
  };
}

type Said = { id: string; type: string; body: string; answers: unknown };
/** What the greeter has said in `room`, oldest first. */
async function saidIn(room: RoomId): Promise<Said[]> {
  const { chunk } = await person.messages(room, { dir: "b", limit: 100 });
  return chunk
    .filter((event) => event["sender"] === greeterUser && event["type"] === "m.room.message")
    .map((event) => {
      const content = event["content"] as Record<string, unknown>;
      const relation = content["m.relates_to"] as Record<string, Record<string, unknown>> | undefined;
      return {
        id: String(event["event_id"]),
        type: String(content["msgtype"]),
        body: String(content["body"]),
        answers: relation?.["m.in_reply_to"]?.["event_id"],
      };
    })
    .reverse();
}
const say = (room: RoomId, body: string, msgtype = "m.text"): Promise<unknown> =>
  person.sendEvent(room, "m.room.message", { msgtype, body });

test("joins, greets once, and answers only text messages of people", async () => {
  const room = await newRoom();
  const before = await say(room, "hello from before it came");
  const { printed } = startGreeter({ room, greeting: "Welcome to the test." });
  await printed("Listening");
  await say(room, "hello, sent as m.notice", "m.notice");
  const question = await say(room, "who are you?");
  await printed("Answered");
  const said = await saidIn(room);
  expect(said.map(({ type }) => type)).toEqual(["m.text", "m.notice"]);
  expect(said[0]?.body).toBe("Welcome to the test.");
  expect(said[1]?.body).toContain(greeterUser);
  expect(said[1]?.answers).toBe(question);
  expect(said[1]?.answers).not.toBe(before);
});

test("after a restart says so briefly, and does not answer earlier messages again", async () => {
  const room = await newRoom();
  const first = startGreeter({ room });
  await first.printed("Listening");
  await say(room, "time?");
  await first.printed("Answered");
  first.child.kill("SIGTERM");
  expect(await first.child.exited).toBe(0);
  const second = startGreeter({ room });
  await second.printed("Listening");
  await say(room, "thanks");
  await second.printed("Answered");
  expect((await saidIn(room)).map(({ body }) => body.split(/[.!(]/u)[0])).toEqual([
    "Hello",
    expect.stringMatching(/^It is 2/u),
    "I am back",
    "You are welcome",
  ]);
});

test("waits out an outage, and answers what was said meanwhile", async () => {
  const room = await newRoom();
  const { printed } = startGreeter({ room });
  await printed("Listening");
  await proxy[Symbol.asyncDispose]();
  await printed("Trying again");
  const question = await say(room, "are you still there? hello?");
  proxy = await startProxy(proxyConfig, { log: silentLog });
  await printed("Answered");
  const said = await saidIn(room);
  expect(said.filter(({ type }) => type === "m.text")).toHaveLength(1);
  expect(said.at(-1)?.answers).toBe(question);
});

test("reports a payload it cannot use, and reads the next one on SIGHUP", async () => {
  const room = await newRoom();
  const { child, printed } = startGreeter({ room: "nowhere" });
  expect(await printed("Invalid payload")).toContain("room must be a room ID");
  writeFileSync(payload, JSON.stringify({ room, greeting: "Found it." }));
  child.kill("SIGHUP");
  await printed("Listening");
  const other = await newRoom();
  writeFileSync(payload, JSON.stringify({ room: other }));
  child.kill("SIGHUP");
  await printed("Listening");
  expect((await saidIn(room)).map(({ body }) => body)).toEqual(["Found it."]);
  expect(await saidIn(other)).toHaveLength(1);
});

test("an unmodified Matrix client works through the bridge with any token, within the principal's grants", async () => {
  const bridge = Bun.spawn(
    runtimeCommand(join(import.meta.dir, "bridge-main.ts"), "--listen", "tcp:127.0.0.1:0"),
    {
      stdout: "ignore",
      stderr: "pipe",
      env: { ...process.env, BUREAU_PROXY_SOCKET: socket },
    },
  );
  running.push(bridge);
  const line = await linesOf(bridge.stderr)("→");
  const url = `http://${/tcp:(\S+)/u.exec(line)?.[1]}`;
  const client = new MatrixSession({
    fetch: egressFetch,
    homeserver: url,
    userId: greeterUser,
    token: "placeholder",
  });
  expect((await client.whoami()).userId).toBe(greeterUser);
  const room = await newRoom();
  await client.joinRoom(room);
  await client.sendMessage(room, { msgtype: "m.text", body: "through the bridge" });
  expect((await saidIn(room)).map(({ body }) => body)).toEqual(["through the bridge"]);
  await expect(client.createRoom({ preset: "private_chat" })).rejects.toThrow("matrix/create-room");
});
