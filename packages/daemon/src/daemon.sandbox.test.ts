import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type Homeserver, startHomeserver } from "@bureau/homeserver/homeserver";
import { systemClock } from "@bureau/kit/clock";
import { Secret } from "@bureau/kit/secret";
import { TestLauncher } from "@bureau/launcher/testing/launcher-fixture";
import { registerWithToken } from "@bureau/matrix/auth";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { machineSessionFile, observeSocket } from "@bureau/os/layout";
import { exitCodes } from "@bureau/os/lifecycle";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { writeMachineSession } from "@bureau/os/session-file";
import { silentLog } from "@bureau/os/testing/silent-log";
import { eventMessages, eventTypes } from "@bureau/schema/events";
import { debugParts, type MachineReport, MachineReportSchema } from "@bureau/schema/observe-wire";
import { parse } from "@bureau/schema/parse";
import { type RoomId, rooms, stateKeyOf, type UserId, userIdOf } from "@bureau/schema/refs";

setDefaultTimeout(30_000);
const REGISTRATION = "a registration token";
const CONDITION_MS_MAX = 15_000;

/** A machine with a real launcher and daemon, its rooms on a real homeserver, and an operator. */
class TestMachine implements AsyncDisposable {
  readonly launcher = new TestLauncher();
  readonly machine = this.launcher.config.machine;
  readonly fleet = this.launcher.config.fleet;
  readonly server = this.launcher.config.serverName;
  readonly user: UserId = userIdOf(this.machine, this.server);
  readonly logFile = join(this.launcher.root, "daemon.log");
  operator: MatrixSession;
  session: MatrixSession;
  configRoom = "" as RoomId;
  machinesRoom = "" as RoomId;
  #daemon: Bun.Subprocess | undefined;

  private constructor(operator: MatrixSession, session: MatrixSession) {
    this.operator = operator;
    this.session = session;
  }

  static async start(homeserver: string): Promise<TestMachine> {
    const register = async (username: string): Promise<MatrixSession> => {
      const made = await registerWithToken({
        fetch: egressFetch,
        homeserver,
        username,
        password: "p",
        registrationToken: REGISTRATION,
      });
      if (made.inUse) throw new Error(`${username} exists`);
      const session = new MatrixSession({
        fetch: egressFetch,
        homeserver,
        userId: made.userId,
        token: made.token,
      });
      tokens.set(session, made.token);
      return session;
    };
    const operator = await register("operator");
    const machine = new TestMachine(operator, await register("bureau/fleet/test/machine/box"));
    const token = tokens.get(machine.session) ?? "";
    await machine.#makeRooms();
    await machine.launcher.start();
    writeMachineSession(machineSessionFile(machine.launcher.layout), {
      homeserver,
      userId: machine.user,
      token,
    });
    return machine;
  }

  async #makeRooms(): Promise<void> {
    const invite = [this.user];
    const room = (alias: string, levels: object = {}): Promise<RoomId> =>
      this.operator.createRoom({
        room_alias_name: alias,
        preset: "private_chat",
        invite,
        power_level_content_override: { users: { [this.operator.userId]: 100, [this.user]: 50 }, ...levels },
      });
    this.configRoom = await room(rooms.config(this.machine), {
      events: { [eventTypes.message]: 0, [eventTypes.machineConfig]: 50 },
    });
    this.machinesRoom = await room(rooms.fleetMachines(this.fleet), {
      events: { [eventTypes.machineInfo]: 0, [eventTypes.machineStatus]: 0 },
    });
    for (const alias of [rooms.fleet(this.fleet), rooms.fleetServices(this.fleet), "bureau/system"])
      await room(alias);
    const templates = await room("bureau/template");
    await this.operator.putState(templates, eventTypes.template, "shell", { command: ["/bin/sh"] });
  }

  spawnDaemon(): Bun.Subprocess {
    const { layout, config } = this.launcher;
    this.#daemon = Bun.spawn(
      [
        ...runtimeCommand(join(import.meta.dirname, "main.ts")),
        ...["--machine-name", config.machine, "--server-name", config.serverName, "--fleet", config.fleet],
        ...["--run-dir", layout.runDir, "--state-dir", layout.stateDir, "--drain-grace-period", "2s"],
        // A revoked session is noticed with the next request; a quiet /sync is held for 30 s.
        ...["--status-interval", "500ms"],
      ],
      { stdout: "ignore", stderr: Bun.file(this.logFile) },
    );
    return this.#daemon;
  }

  /** Credentials as an operator would provision them, sealed for this machine. */
  async provision(account: string): Promise<UserId> {
    const principal = userIdOf(`${this.fleet}/${account}` as never, this.server);
    await this.operator.putState(this.configRoom, eventTypes.credentials, stateKeyOf(principal), {
      version: 1,
      principal,
      encrypted_for: [this.user],
      keys: ["MATRIX_TOKEN"],
      ciphertext: await this.launcher.seal({ MATRIX_TOKEN: "token-of-the-principal" }),
      provisioned_by: this.operator.userId,
      provisioned_at: "2026-01-01T00:00:00Z",
      signature: "",
    });
    return principal;
  }

  async configure(
    ...principals: { principal: UserId; script: string; [field: string]: unknown }[]
  ): Promise<void> {
    await this.operator.putState(this.configRoom, eventTypes.machineConfig, stateKeyOf(this.user), {
      principals: principals.map(({ script, ...rest }) => ({
        template: "bureau/template:shell",
        auto_start: true,
        command_override: ["/bin/sh", "-c", script],
        ...rest,
      })),
      default_policy: { allowances: [{ actions: ["observe"], actors: [`operator:${this.server}`] }] },
    });
  }

  async ask(request: object): Promise<Record<string, unknown>> {
    const socket = connect({ path: observeSocket(this.launcher.layout) });
    socket.write(`${JSON.stringify(request)}\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk);
    return JSON.parse(Buffer.concat(chunks).toString());
  }

  async report(): Promise<MachineReport> {
    return parse(MachineReportSchema, await this.ask({ action: "status" }), "status");
  }

  async stateOf(account: string): Promise<string | undefined> {
    const report = await this.report().catch(() => undefined);
    return report?.principals?.find(({ name }) => name === account)?.state;
  }

  /** The daemon's event messages of one kind, oldest first. */
  async eventMessages(msgtype: string): Promise<Record<string, unknown>[]> {
    const { chunk } = await this.operator.messages(this.configRoom, { limit: 100 });
    return chunk
      .map(({ content }) => content as Record<string, unknown>)
      .filter((content) => content["msgtype"] === msgtype)
      .reverse();
  }

  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + CONDITION_MS_MAX;
    while (!(await condition())) {
      if (Date.now() > deadline)
        throw new Error(`condition not met: ${what}\n${readFileSync(this.logFile, "utf8")}`);
      await systemClock.sleep(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#daemon?.kill("SIGKILL");
    await this.#daemon?.exited;
    await this.launcher[Symbol.asyncDispose]();
  }
}

const tokens = new Map<MatrixSession, string>();
let folder: string;
let dataDir: string;
let homeserver: Homeserver;
let machine: TestMachine;
const startHome = (dataDir: string, port = 0): Promise<Homeserver> =>
  startHomeserver(
    {
      dataDir,
      serverName: "bureau.test",
      listen: [{ kind: "tcp", hostname: "127.0.0.1", port }],
      registrationToken: new Secret(REGISTRATION),
    },
    { log: silentLog, clock: systemClock },
  );
/** Stops the homeserver; the returned function starts it again at the same address. */
async function takeHomeserverDown(): Promise<() => Promise<void>> {
  const { port } = homeserver;
  await homeserver[Symbol.asyncDispose]();
  return async () => {
    homeserver = await startHome(dataDir, port);
  };
}
beforeAll(() => {
  folder = mkdtempSync("/tmp/bd-");
});
beforeEach(async () => {
  dataDir = mkdtempSync(join(folder, "hs-"));
  homeserver = await startHome(dataDir);
  machine = await TestMachine.start(homeserver.url);
});
afterEach(async () => {
  await machine[Symbol.asyncDispose]();
  await homeserver[Symbol.asyncDispose]();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("runs an assignment, passes on a changed payload, and stops when the assignment is removed", async () => {
  const principal = await machine.provision("agent/a");
  machine.spawnDaemon();
  await machine.configure({
    principal,
    script: "cat /run/bureau/payload.json; sleep 600",
    payload: { n: 1 },
  });
  await machine.until("it runs", async () => (await machine.stateOf("agent/a")) === "running");
  await machine.until("its output is there", async () =>
    (await machine.launcher.output("agent/a")).includes('"n":'),
  );
  const first = (await machine.launcher.status("agent/a"))?.pid;

  await machine.configure({
    principal,
    script: "cat /run/bureau/payload.json; sleep 600",
    payload: { n: 2 },
  });
  await machine.until(
    "the payload was handed over",
    async () => (await machine.eventMessages(eventMessages.payloadUpdated)).length > 0,
  );
  expect(JSON.parse(readFileSync(machine.launcher.paths("agent/a").payload, "utf8"))).toEqual({ n: 2 });
  expect((await machine.launcher.status("agent/a"))?.pid).toBe(first);

  await machine.configure({ principal, script: "sleep 601" });
  await machine.until(
    "it was restarted",
    async () => (await machine.eventMessages(eventMessages.principalRestarted)).length > 0,
  );
  expect((await machine.launcher.status("agent/a"))?.pid).not.toBe(first);

  await machine.configure();
  await machine.until("it stopped", async () => (await machine.launcher.status("agent/a")) === undefined);
  await machine.until(
    "the stop is reported",
    async () => (await machine.eventMessages(eventMessages.principalStopped)).length > 0,
  );
});

test("reports a failing command with its exit code and output, and never runs it again under never", async () => {
  const principal = await machine.provision("agent/b");
  await machine.configure({ principal, script: "echo this went wrong; exit 3", restart_policy: "never" });
  const daemon = machine.spawnDaemon();
  await machine.until(
    "the exit is reported",
    async () => (await machine.eventMessages(eventMessages.sandboxExited)).length > 0,
  );
  const [exited] = await machine.eventMessages(eventMessages.sandboxExited);
  expect(exited).toMatchObject({ principal: "agent/b", exit_code: 3 });
  expect(exited?.["captured_output"]).toContain("this went wrong");
  await machine.until("it is completed", async () => (await machine.stateOf("agent/b")) === "completed");

  daemon.kill("SIGTERM");
  expect(await daemon.exited).toBe(exitCodes.ok);
  machine.spawnDaemon();
  await machine.until(
    "the next daemon reports the completion",
    async () => (await machine.stateOf("agent/b")) === "completed",
  );
  expect(await machine.eventMessages(eventMessages.principalStarted)).toHaveLength(1);
});

test("a killed daemon leaves its sandboxes running, and the next one takes them over", async () => {
  const principal = await machine.provision("agent/c");
  await machine.configure({ principal, script: "sleep 600" });
  const daemon = machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/c")) === "running");
  const before = await machine.launcher.status("agent/c");
  daemon.kill("SIGKILL");
  await daemon.exited;
  machine.spawnDaemon();
  await machine.until(
    "it is taken over",
    async () => (await machine.eventMessages(eventMessages.principalAdopted)).length > 0,
  );
  await machine.until("it still runs", async () => (await machine.stateOf("agent/c")) === "running");
  expect((await machine.launcher.status("agent/c"))?.pid).toBe(before?.pid ?? -1);
});

test("one faulty principal reports why, and the others run", async () => {
  const good = await machine.provision("agent/good");
  const poor = userIdOf("bureau/fleet/test/agent/poor" as never, machine.server);
  const lost = await machine.provision("agent/lost");
  await machine.configure(
    { principal: good, script: "sleep 600" },
    { principal: poor, script: "sleep 600" },
    { principal: lost, script: "sleep 600", template: "bureau/template:missing" },
  );
  machine.spawnDaemon();
  await machine.until("the good one runs", async () => (await machine.stateOf("agent/good")) === "running");
  await machine.until(
    "both faults are reported",
    async () => (await machine.eventMessages(eventMessages.principalStartFailed)).length === 2,
  );
  const reasons = (await machine.eventMessages(eventMessages.principalStartFailed))
    .map(({ error }) => String(error))
    .sort();
  expect(reasons[0]).toContain('there is no template "missing"');
  expect(reasons[1]).toContain("There are no credentials");
  expect(await machine.stateOf("agent/poor")).toBe("failed");

  await machine.provision("agent/poor");
  await machine.until(
    "it runs with credentials",
    async () => (await machine.stateOf("agent/poor")) === "running",
  );
});

test("a credential is added, rotated and revoked while the sandbox runs, and its value is nowhere", async () => {
  const principal = await machine.provision("agent/canary");
  await machine.configure({ principal, script: "sleep 600" });
  machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/canary")) === "running");
  const before = await machine.launcher.status("agent/canary");
  const values = ["canary-one-5c1d", "canary-two-9e27"];
  const put = async (keys: object, more: object = {}) =>
    await machine.operator.putState(machine.configRoom, eventTypes.credentialKeys, stateKeyOf(principal), {
      version: 1,
      principal,
      keys,
      ...more,
    });
  const by = { provisioned_by: machine.operator.userId, provisioned_at: "2026-01-01T00:00:00Z" };
  const updates = async () =>
    (await machine.eventMessages(eventMessages.credentialsRotated)).map(({ status }) => status);
  for (const [index, value] of values.entries()) {
    await put({ API_KEY: { ...by, ciphertext: await machine.launcher.seal({ API_KEY: value }) } });
    await machine.until("its proxy has it", async () => (await updates()).length === index + 1);
  }
  const rotated = await machine.launcher.status("agent/canary");
  expect(rotated?.pid).toBe(before?.pid ?? -1);
  expect(rotated?.proxy.pid).not.toBe(before?.proxy.pid ?? -1);
  // What cannot be opened replaces nothing.
  await put({ API_KEY: { ...by, ciphertext: await machine.launcher.seal({ OTHER: "canary-one-5c1d" }) } });
  await machine.until("it is refused", async () => (await updates()).includes("failed"));
  expect(await machine.launcher.status("agent/canary")).toMatchObject({
    pid: before?.pid,
    proxy: { state: "running", pid: rotated?.proxy.pid },
  });
  await put({ API_KEY: by });
  await machine.until("it is revoked", async () => (await updates()).length === 4);
  expect((await machine.launcher.status("agent/canary"))?.pid).toBe(before?.pid ?? -1);

  await put({}, { revoked_by: machine.operator.userId, revoked_at: "2026-01-01T00:00:00Z" });
  await machine.operator.putState(machine.configRoom, eventTypes.credentials, stateKeyOf(principal), {});
  await machine.until(
    "it is stopped",
    async () => (await machine.launcher.status("agent/canary")) === undefined,
  );
  expect(placesOf(values, machine.launcher.config.layout)).toEqual([]);
});

/** Where one of the values is found: in files of the machine, in arguments and environments of processes. */
function placesOf(
  values: readonly string[],
  { runDir, stateDir }: { runDir: string; stateDir: string },
): string[] {
  const inFiles = [runDir, stateDir].flatMap((root) =>
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  const ofProcesses = readdirSync("/proc")
    .filter((name) => /^\d+$/u.test(name))
    .flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`]);
  return [...inFiles, ...ofProcesses].filter((path) => {
    try {
      const bytes = readFileSync(path);
      return values.some((value) => bytes.includes(value));
    } catch {
      // A process ended meanwhile, or is another user's.
      return false;
    }
  });
}

test("publishes facts and heartbeats, and keeps labels that an operator set", async () => {
  const key = stateKeyOf(machine.user);
  const read = (type: string) => machine.operator.getState(machine.machinesRoom, type, key);
  const first = machine.spawnDaemon();
  await machine.until("the facts are there", async () => (await read(eventTypes.machineInfo)) !== undefined);
  await machine.until(
    "a heartbeat is there",
    async () => (await read(eventTypes.machineStatus)) !== undefined,
  );
  first.kill("SIGTERM");
  await first.exited;
  const labelled = {
    ...((await read(eventTypes.machineInfo)) as object),
    labels: { gpu: "big" },
    hostname: "old",
  };
  await machine.session.putState(machine.machinesRoom, eventTypes.machineInfo, key, labelled);
  machine.spawnDaemon();
  const hostname = async () => ((await read(eventTypes.machineInfo)) as { hostname?: string }).hostname;
  await machine.until("the facts are right again", async () => (await hostname()) !== "old");
  expect(await read(eventTypes.machineInfo)).toMatchObject({
    labels: { gpu: "big" },
    principal: machine.user,
  });
});

test("logs go only to users the target allows", async () => {
  const principal = await machine.provision("agent/d");
  await machine.configure({ principal, script: "echo hello from inside; sleep 600" });
  machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/d")) === "running");
  const logs = (session: MatrixSession) =>
    machine.ask({ action: "logs", principal: "agent/d", token: tokens.get(session) });
  await machine.until("its output shows", async () =>
    String((await logs(machine.operator))["output"]).includes("hello from inside"),
  );
  expect(await logs(machine.session)).toMatchObject({
    ok: false,
    code: "forbidden",
    error: expect.stringContaining("no matching allowance on target"),
  });
  expect(await machine.ask({ action: "logs", principal: "agent/d", token: "made up" })).toMatchObject({
    ok: false,
    code: "unauthorized",
  });
  expect(await machine.ask({ action: "logs", principal: "agent/d" })).toMatchObject({ code: "unauthorized" });
  expect(await machine.ask({ action: "list", token: tokens.get(machine.session) })).toMatchObject({
    principals: [],
  });
  expect(await machine.ask({ action: "list", token: tokens.get(machine.operator) })).toMatchObject({
    principals: [{ localpart: "agent/d", observable: true }],
  });
  expect(await machine.ask({ action: "dance" })).toMatchObject({ ok: false, code: "invalid-input" });
});

test("debug shows the planners' inputs and results, without a token and without secrets", async () => {
  const principal = await machine.provision("agent/e");
  machine.spawnDaemon();
  const payload = { key: "a-payload-secret" };
  await machine.configure({ principal, script: "sleep 600", payload });
  await machine.until("it runs", async () => (await machine.stateOf("agent/e")) === "running");
  const debug = async (part: string) => (await machine.ask({ action: "debug", part }))["view"];

  expect(await debug("plan")).toMatchObject({
    reconcile: { input: { desired: { principals: { "agent/e": { userId: principal } } } } },
  });
  expect(await debug("rooms")).toMatchObject({
    rooms: {
      joined: { config: machine.configRoom },
      aliases: { "#bureau/template:bureau.test": { kind: "joined" } },
      events: { [machine.configRoom]: { [eventTypes.machineConfig]: 1 } },
    },
  });
  expect(await debug("state")).toMatchObject({
    connection: { kind: "online" },
    reconcile: { principals: { "agent/e": { known: true } } },
  });
  expect(await debug("authorization")).toMatchObject({
    authorization: { policies: { [principal]: { allowances: [{ source: "machine-default" }] } } },
  });

  const everything = JSON.stringify(await Promise.all(debugParts.map(debug)));
  for (const secret of ["a-payload-secret", "token-of-the-principal", tokens.get(machine.session) ?? ""])
    expect(everything).not.toContain(secret);
  expect(await machine.ask({ action: "debug" })).toMatchObject({ ok: false, code: "invalid-input" });
});

test("an unreadable configuration stops nothing, and is reported once", async () => {
  const principal = await machine.provision("agent/e");
  await machine.configure({ principal, script: "sleep 600" });
  machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/e")) === "running");
  const broken = { principals: "none of your business" };
  await machine.operator.putState(
    machine.configRoom,
    eventTypes.machineConfig,
    stateKeyOf(machine.user),
    broken,
  );
  await machine.until(
    "the fault is reported",
    async () => (await machine.eventMessages(eventMessages.configInvalid)).length > 0,
  );
  expect(await machine.stateOf("agent/e")).toBe("running");
  await machine.operator.putState(machine.configRoom, eventTypes.machineConfig, stateKeyOf(machine.user), {});
  await machine.until(
    "an empty configuration stops it",
    async () => (await machine.launcher.status("agent/e")) === undefined,
  );
  expect(await machine.eventMessages(eventMessages.configInvalid)).toHaveLength(1);
});

test("while the homeserver is unreachable, sandboxes keep running, the daemon answers, and its messages arrive later", async () => {
  const principal = await machine.provision("agent/g");
  await machine.configure({ principal, script: "sleep 600", restart_policy: "never" });
  machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/g")) === "running");
  const bringUp = await takeHomeserverDown();
  const machineState = async () => (await machine.report()).machine.state;
  await machine.until("the daemon reports it", async () => (await machineState()) === "disconnected");
  expect(await machine.stateOf("agent/g")).toBe("running");
  await machine.launcher.call("signal-sandbox", { principal: "agent/g", signal: 9 });
  await machine.until("the exit is handled", async () => (await machine.stateOf("agent/g")) === "completed");
  await bringUp();
  await machine.until(
    "the event message arrives",
    async () => (await machine.eventMessages(eventMessages.sandboxExited)).length === 1,
  );
  await machine.until("the homeserver is connected", async () => (await machineState()) === "online");
});

test("a daemon that starts before its homeserver answers local requests, and begins when it can", async () => {
  const principal = await machine.provision("agent/h");
  await machine.configure({ principal, script: "sleep 600" });
  const first = machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/h")) === "running");
  const before = (await machine.launcher.status("agent/h"))?.pid;
  first.kill("SIGTERM");
  await first.exited;
  await machine.configure();
  const bringUp = await takeHomeserverDown();
  machine.spawnDaemon();
  const away = async () => (await machine.report().catch(() => undefined))?.machine;
  await machine.until(
    "it reports the reason",
    async () => (await away())?.reason?.includes("cannot reach") === true,
  );
  expect((await away())?.state).toBe("disconnected");
  await machine.until("it lists the sandboxes", async () => (await machine.stateOf("agent/h")) === "running");
  expect((await machine.launcher.status("agent/h"))?.pid).toBe(before ?? -1);
  await bringUp();
  await machine.until(
    "it applies the change",
    async () => (await machine.launcher.status("agent/h")) === undefined,
  );
});

test("waits for an absent launcher, and replaces a proxy that dies", async () => {
  const principal = await machine.provision("agent/i");
  await machine.launcher.stop();
  await machine.configure({ principal, script: "sleep 600" });
  machine.spawnDaemon();
  const reason = async () => (await machine.report().catch(() => undefined))?.machine.reason;
  await machine.until("the daemon reports it", async () => (await reason())?.includes("launcher") === true);
  await machine.launcher.start();
  await machine.until("it runs", async () => (await machine.stateOf("agent/i")) === "running");
  const proxyOf = async () => (await machine.launcher.status("agent/i"))?.proxy;
  const before = (await proxyOf())?.pid ?? -1;
  process.kill(before, "SIGKILL");
  await machine.until("there is another", async () => {
    const proxy = await proxyOf();
    return proxy?.state === "running" && proxy.pid !== before;
  });
  await machine.until(
    "the event message arrives",
    async () => (await machine.eventMessages(eventMessages.proxyCrash)).length === 2,
  );
  expect((await machine.eventMessages(eventMessages.proxyCrash)).map(({ status }) => status)).toEqual([
    "detected",
    "recovered",
  ]);
});

test("pushes changed grants to the proxy without a restart", async () => {
  const principal = await machine.provision("agent/j");
  const grantsOf = (allow_join: boolean) =>
    machine.configure({ principal, script: "sleep 600", matrix_policy: { allow_join } });
  await grantsOf(false);
  machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/j")) === "running");
  const before = await machine.launcher.status("agent/j");
  await grantsOf(true);
  await machine.until(
    "the event message arrives",
    async () => (await machine.eventMessages(eventMessages.grantsUpdated)).length === 1,
  );
  expect((await machine.eventMessages(eventMessages.grantsUpdated))[0]).toMatchObject({
    principal: "agent/j",
    grant_count: 1,
  });
  const after = await machine.launcher.status("agent/j");
  expect([after?.pid, after?.proxy.pid]).toEqual([before?.pid, before?.proxy.pid]);
});

test.each([
  ["its session is revoked", () => machine.session.logout(true)],
  ["it is removed from its config room", () => machine.operator.kickUser(machine.configRoom, machine.user)],
])("when %s, it removes every sandbox and exits for good", async (_, revoke) => {
  const principal = await machine.provision("agent/f");
  await machine.configure({ principal, script: "trap '' TERM; while :; do sleep 1; done" });
  const daemon = machine.spawnDaemon();
  await machine.until("it runs", async () => (await machine.stateOf("agent/f")) === "running");
  await revoke();
  expect(await daemon.exited).toBe(exitCodes.revoked);
  expect((await machine.launcher.status("agent/f"))?.state).not.toBe("running");

  const again = machine.spawnDaemon();
  expect(await again.exited).toBe(exitCodes.revoked);
});

test("on a request to leave it stops everything with grace, reports it, ends its session and exits", async () => {
  const key = stateKeyOf(machine.user);
  const requested_by = machine.operator.userId;
  // Long enough to observe, also on a busy machine, that one has ended while the other still has its grace.
  const request = { grace_seconds: 6, requested_by, requested_at: "2026-01-01T00:00:00Z" };
  const polite = await machine.provision("agent/polite");
  const deaf = await machine.provision("agent/deaf");
  const daemon = machine.spawnDaemon();
  await machine.configure(
    {
      principal: polite,
      script: "trap 'sleep 0.3; echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
    },
    { principal: deaf, script: "trap '' TERM; trap : HUP; echo up; while :; do sleep 0.1; done" },
  );
  for (const account of ["agent/polite", "agent/deaf"])
    await machine.until(`${account} is up`, async () =>
      (await machine.launcher.output(account).catch(() => "")).includes("up"),
    );

  const event = await machine.operator.putState(
    machine.configRoom,
    eventTypes.machineDecommission,
    key,
    request,
  );
  await machine.until("polite is gone, deaf has its grace", async () => {
    const [one, other] = [await machine.stateOf("agent/polite"), await machine.stateOf("agent/deaf")];
    return one === undefined && other === "stopping";
  });
  expect(await daemon.exited).toBe(exitCodes.revoked);
  expect(await machine.operator.getState(machine.configRoom, eventTypes.machineDecommissioned, key)).toEqual({
    request: event,
    at: expect.stringMatching(/^20..-/),
    stopped: 2,
  });
  expect((await machine.launcher.status("agent/deaf"))?.state).not.toBe("running");
  await expect(machine.session.whoami()).rejects.toMatchObject({ code: "unauthorized" });
  expect(await machine.spawnDaemon().exited).toBe(exitCodes.revoked);
});

test("drops a request to leave that is withdrawn in time, and ignores one by an agent", async () => {
  const key = stateKeyOf(machine.user);
  const principal = await machine.provision("agent/stays");
  machine.spawnDaemon();
  await machine.configure({
    principal,
    script: "trap 'sleep 5; exit 0' TERM; echo up; while :; do sleep 0.1; done",
  });
  await machine.until("it is up", async () =>
    (await machine.launcher.output("agent/stays").catch(() => "")).includes("up"),
  );
  const first = (await machine.launcher.status("agent/stays"))?.pid;

  const asked = { grace_seconds: 30, requested_by: machine.user, requested_at: "" };
  await machine.operator.putState(machine.configRoom, eventTypes.powerLevels, "", {
    users: { [machine.operator.userId]: 100, [machine.user]: 50 },
    state_default: 0,
    events: { [eventTypes.message]: 0 },
  });
  await machine.session.putState(machine.configRoom, eventTypes.machineDecommission, key, asked);
  await machine.until("the fault is reported", async () =>
    JSON.stringify(await machine.eventMessages(eventMessages.configInvalid)).includes(
      "and only users with the level 100 in the room may",
    ),
  );
  expect((await machine.launcher.status("agent/stays"))?.pid).toBe(first);

  await machine.operator.putState(machine.configRoom, eventTypes.machineDecommission, key, asked);
  await machine.until(
    "it is being stopped",
    async () => (await machine.stateOf("agent/stays")) === "stopping",
  );
  await machine.operator.putState(machine.configRoom, eventTypes.machineDecommission, key, {});
  await machine.until("it runs again", async () => {
    const now = await machine.launcher.status("agent/stays");
    return now?.state === "running" && now.pid !== first;
  });
  expect(
    await machine.operator.getState(machine.configRoom, eventTypes.machineDecommissioned, key),
  ).toBeUndefined();
}, 60_000);
