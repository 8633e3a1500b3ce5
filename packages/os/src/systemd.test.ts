import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { runtimeCommand } from "./runtime-command.ts";
import {
  credentialFile,
  feedWatchdog,
  inheritedSockets,
  notifyServiceManager,
  socketVariables,
} from "./systemd.ts";

const folder = mkdtempSync(join(tmpdir(), "sd-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A real datagram socket, in Python: prints each message as a line, with NUL for a newline inside. */
function receiver(path: string) {
  const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\\0", 1) if sys.argv[1].startswith("@") else sys.argv[1])
print("bound", flush=True)
while True: print(s.recv(4096).decode().replace("\\n", "|"), flush=True)`;
  const child = Bun.spawn(["python3", "-c", script, path], { stdout: "pipe", stderr: "inherit" });
  const reader = child.stdout.getReader();
  let text = "";
  const until = async (wanted: string): Promise<string> => {
    while (!text.includes(wanted)) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`the receiver ended; it had ${JSON.stringify(text)}`);
      text += Buffer.from(value).toString();
    }
    return text;
  };
  return { until, [Symbol.dispose]: () => void child.kill() };
}

describe("the service manager", () => {
  test("receives states over a path and over an abstract name", async () => {
    for (const path of [join(folder, "notify"), `@bureau-test-${process.pid}`]) {
      using listener = receiver(path);
      await listener.until("bound");
      const env = { NOTIFY_SOCKET: path };
      expect(notifyServiceManager({ ready: true, status: "two\nlines" }, env)).toBe(true);
      expect(await listener.until("STATUS=two lines")).toContain("READY=1|STATUS=two lines");
      expect(notifyServiceManager({ stopping: true }, env)).toBe(true);
      await listener.until("STOPPING=1");
    }
  });

  test("may be absent", () => {
    expect(notifyServiceManager({ ready: true }, {})).toBe(false);
    expect(notifyServiceManager({ ready: true }, { NOTIFY_SOCKET: join(folder, "absent") })).toBe(false);
    expect(credentialFile("key", {})).toBeUndefined();
    expect(credentialFile("key", { CREDENTIALS_DIRECTORY: "/run/c" })).toBe("/run/c/key");
  });

  test("gets watchdog pings at once and several times an interval, only when it asks this process", async () => {
    const path = join(folder, "watchdog");
    using listener = receiver(path);
    await listener.until("bound");
    const env = { NOTIFY_SOCKET: path, WATCHDOG_USEC: "60000" };
    // Each program is replaced before its first regular ping.
    const rare = { ...env, WATCHDOG_USEC: "3600000000" };
    for (let count = 0; count < 2; count++) feedWatchdog(rare)[Symbol.dispose]();
    await listener.until("WATCHDOG=1\nWATCHDOG=1");
    using _other = feedWatchdog({ ...env, WATCHDOG_PID: "1" });
    const started = systemClock.monotonic();
    using _ours = feedWatchdog({ ...env, WATCHDOG_PID: String(process.pid) });
    await listener.until("WATCHDOG=1\n".repeat(2 + 3));
    expect(systemClock.monotonic() - started).toBeGreaterThan(30);
  });

  test("hands listening sockets to this process only", () => {
    expect(inheritedSockets(["a.sock"], {}).size).toBe(0);
    expect(inheritedSockets(["a.sock"], { LISTEN_FDS: "1", LISTEN_PID: "1" }).size).toBe(0);
  });

  test("passes each socket by a name of its own; older builds know the first", () => {
    const sockets = [
      { fd: 9, name: "a.sock", isOurs: true },
      { fd: 8, name: "b.sock", isOurs: false },
      { fd: 7, name: "c.sock", isOurs: true },
    ];
    const passed = { LISTEN_PID: String(process.pid) };
    expect(socketVariables(sockets)).toEqual({
      ...passed,
      LISTEN_FDS: "3",
      LISTEN_FDNAMES: "bureau-own:b.sock:bureau-own/c.sock",
    });
    expect(socketVariables(sockets.slice(1, 2))).toEqual({
      ...passed,
      LISTEN_FDS: "1",
      LISTEN_FDNAMES: "b.sock",
    });
  });
});

/** A shell cannot listen, Python can: it hands its sockets on from descriptor 3, as systemd does. */
function startWithSockets(program: string, names: string | undefined, ...paths: readonly string[]) {
  const script = `
import os, socket, sys
names, count = sys.argv[1], int(sys.argv[2])
for index, path in enumerate(sys.argv[3:3 + count]):
  s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(5)
  s.set_inheritable(True); assert s.fileno() == 3 + index
  s.detach()
os.environ["LISTEN_FDS"] = str(count)
if names: os.environ["LISTEN_FDNAMES"] = names
os.execv(sys.argv[3 + count], sys.argv[3 + count:])`;
  return Bun.spawn(
    ["python3", "-c", script, names ?? "", String(paths.length), ...paths, ...runtimeCommand(program)],
    { stderr: "inherit" },
  );
}

/** The bytes from a socket; undefined while no program listens there. */
const textFrom = (path: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    let text = "";
    const socket = connect({ path });
    socket.on("data", (chunk) => {
      text += chunk.toString();
    });
    socket.on("error", () => resolve(undefined));
    socket.on("close", () => resolve(text === "" ? undefined : text));
  });
const answerFrom = (path: string): Promise<string | undefined> =>
  waitFor(() => textFrom(path), { timeoutMs: 10_000, clock: systemClock });

test("a program started with a listening socket serves on it, and its own children do not inherit it", async () => {
  const path = join(folder, "inherited.sock");
  const program = join(folder, "server.ts");
  const kit = join(import.meta.dir, "systemd.ts");
  await Bun.write(
    program,
    `import { createServer } from "node:net";
import { inheritedSockets } from ${JSON.stringify(kit)};
process.env.LISTEN_PID = String(process.pid);
const where = inheritedSockets(["inherited.sock"]).get("inherited.sock");
createServer((socket) => {
  const child = Bun.spawnSync(["ls", "-l", "/proc/self/fd"], { stdout: "pipe" });
  socket.end(String(/ 3 -> socket/.test(child.stdout.toString())));
}).listen(where);`,
  );
  const child = startWithSockets(program, undefined, path);
  try {
    expect(await answerFrom(path)).toBe("false");
  } finally {
    child.kill();
    await child.exited;
  }
});

test.each([
  ["the names systemd passes", "relay.sock:unknown.sock:main.sock", "false false"],
  ["a first socket with its unit's name", "bureau-x.socket:unknown.sock:relay.sock", "false false"],
  ["sockets of its own", "bureau-own:unknown.sock:bureau-own/relay.sock", "true true"],
])("a program takes several sockets by %s, and closes an unknown one", async (_, names, isOurs) => {
  const at = Object.fromEntries(
    names.split(":").map((name, index) => [name, join(folder, `many-${index}.sock`)]),
  );
  const paths = Object.values(at);
  const program = join(folder, "many.ts");
  await Bun.write(
    program,
    `import { createServer } from "node:net";
import { inheritedSockets } from ${JSON.stringify(join(import.meta.dir, "systemd.ts"))};
process.env.LISTEN_PID = String(process.pid);
const sockets = inheritedSockets(["main.sock", "relay.sock"]);
const owned = [...sockets.values()].map(({ isOurs }) => isOurs).join(" ");
for (const [name, where] of sockets) createServer((socket) => socket.end(name + " " + owned)).listen(where);`,
  );
  const child = startWithSockets(program, names, ...paths);
  try {
    const relay = at["relay.sock"] ?? at["bureau-own/relay.sock"] ?? "";
    const main = at["main.sock"] ?? paths[0] ?? "";
    expect(await answerFrom(main)).toBe(`main.sock ${isOurs}`);
    expect(await answerFrom(relay)).toBe(`relay.sock ${isOurs}`);
    expect(await textFrom(at["unknown.sock"] ?? "")).toBeUndefined();
  } finally {
    child.kill();
    await child.exited;
    for (const path of paths) rmSync(path);
  }
});
