import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startHomeserver } from "@bureau/homeserver/homeserver";
import { systemClock } from "@bureau/kit/clock";
import { Secret } from "@bureau/kit/secret";
import { hasBooted } from "@bureau/launcher/first-boot-process";
import { login, registerWithToken } from "@bureau/matrix/auth";
import { egressFetch } from "@bureau/os/egress";
import { silentLog } from "@bureau/os/testing/silent-log";
import { parseFleet, parseMachine, parseServerName, userIdOf } from "@bureau/schema/refs";
import { openHomeserverDoor } from "@bureau/testkit/homeserver-door";
import { firstBoot } from "./first-boot.ts";
import type { FirstBootConfig } from "./first-boot-config.ts";
import { forgetOldMembership } from "./forget-old-membership.ts";

const fleet = parseFleet("bureau/fleet/test");
const server = parseServerName("bureau.test");
const never = new AbortController().signal;
const root = mkdtempSync("/tmp/fb-");
let homeserver: Awaited<ReturnType<typeof startHomeserver>>;
let adminToken: string;
let machines = 0;
const gates: { stop: () => void }[] = [];

beforeAll(async () => {
  homeserver = await startHomeserver(
    {
      dataDir: join(root, "hs"),
      serverName: server,
      listen: [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }],
      registrationToken: new Secret("registration"),
    },
    { log: silentLog, clock: systemClock },
  );
  adminToken = await register("admin", "admin-password");
  const power_level_content_override = { events: { "m.bureau.machine_key": 0 } };
  for (const room_alias_name of [`${fleet}/machine`, `${fleet}/service`])
    await asAdmin("POST", "createRoom", {
      room_alias_name,
      preset: "public_chat",
      power_level_content_override,
    });
});
afterEach(() => {
  for (const gate of gates.splice(0)) gate.stop();
});
afterAll(async () => {
  await homeserver[Symbol.asyncDispose]();
  rmSync(root, { recursive: true, force: true });
});

/** Makes an account; returns its token. */
async function register(username: string, password: string): Promise<string> {
  const made = await registerWithToken({
    homeserver: homeserver.url,
    fetch: egressFetch,
    username,
    password,
    registrationToken: "registration",
  });
  if (made.inUse) throw new Error(`the name "${username}" is taken`);
  return made.token;
}

const logIn = ({ machine }: FirstBootConfig, password: string) =>
  login({ homeserver: homeserver.url, fetch: egressFetch, user: machine, password });

async function asAdmin(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(`${homeserver.url}/_matrix/client/v3/${path}`, {
    method,
    headers: { authorization: `Bearer ${adminToken}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
}

/** A machine with folders of its own that has not booted. */
function newMachine(): FirstBootConfig {
  const dir = join(root, `m${machines++}`);
  mkdirSync(dir);
  const layout = {
    runDir: join(dir, "r"),
    stateDir: join(dir, "s"),
    workspaceRoot: join(dir, "w"),
    cacheRoot: join(dir, "c"),
  };
  return {
    layout,
    homeserverUrl: homeserver.url,
    machine: parseMachine(`${fleet}/machine/${dir.split("/").at(-1)}`),
    serverName: server,
    fleet,
    bootstrapFile: join(dir, "bootstrap.json"),
    registrationTokenFile: undefined,
  };
}

/** Makes the account and its bootstrap file, as provisioning does. */
async function provision(config: FirstBootConfig, fields: Record<string, string> = {}): Promise<void> {
  const password = new Bun.CryptoHasher("sha256").update(config.machine).digest("hex");
  await register(config.machine, password);
  const content = {
    homeserver_url: homeserver.url,
    server_name: server,
    machine_name: config.machine,
    password,
    fleet_prefix: fleet,
    ...fields,
  };
  writeFileSync(config.bootstrapFile ?? "", JSON.stringify(content), { mode: 0o600 });
}

const boot = (config: FirstBootConfig, signal = never): Promise<void> =>
  firstBoot(config, { clock: systemClock, log: silentLog, signal });
const inState = (config: FirstBootConfig, name: string): string => join(config.layout.stateDir, name);
const read = (config: FirstBootConfig, name: string): string => readFileSync(inState(config, name), "utf8");

async function publishedKey(config: FirstBootConfig): Promise<unknown> {
  const alias = encodeURIComponent(`#${fleet}/machine:${server}`);
  const { room_id } = await asAdmin("GET", `directory/room/${alias}`);
  const key = encodeURIComponent(`${config.machine}:${server}`);
  return asAdmin("GET", `rooms/${room_id}/state/m.bureau.machine_key/${key}`);
}

async function expectBooted(config: FirstBootConfig): Promise<void> {
  const session = JSON.parse(read(config, "session.json"));
  expect(session).toMatchObject({
    homeserver_url: expect.any(String),
    user_id: `@${config.machine}:${server}`,
  });
  const whoami = await fetch(`${homeserver.url}/_matrix/client/v3/account/whoami`, {
    headers: { authorization: `Bearer ${session.access_token}` },
  });
  expect(await whoami.json()).toMatchObject({ user_id: session.user_id });
  expect(await publishedKey(config)).toEqual({
    algorithm: "age-x25519",
    public_key: read(config, "machine-key.pub"),
  });
  expect(
    ["session.json", "machine-key.txt", "machine-key.pub"].map(
      (name) => statSync(inState(config, name)).mode & 0o777,
    ),
  ).toEqual([0o600, 0o600, 0o644]);
}

test("obeys a homeserver that rate-limits each request once, and does nothing twice", async () => {
  const config = newMachine();
  const refused = new Set<string>();
  const done: string[] = [];
  using door = openHomeserverDoor(homeserver.url, ({ method, url }) => {
    const request = `${method} ${decodeURIComponent(new URL(url).pathname)}`;
    if (refused.has(request)) done.push(request);
    if (refused.has(request)) return undefined;
    refused.add(request);
    return Response.json({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 5 }, { status: 429 });
  });
  await provision(config, { homeserver_url: door.url });
  await boot(config);
  await expectBooted(config);
  // The password change takes two requests: the second one authenticates.
  expect(done.map((request) => request.replace("/_matrix/client/v3/", "").split("!")[0])).toEqual([
    "POST login",
    "POST account/password",
    "POST account/password",
    `POST join/#${fleet}/machine:${server}`,
    "PUT rooms/",
    `POST join/#${fleet}/service:${server}`,
  ]);
});

describe("first boot with a bootstrap file", () => {
  test("makes key, session and published key, changes the password and deletes the file", async () => {
    const config = newMachine();
    await provision(config);
    const { password } = JSON.parse(readFileSync(config.bootstrapFile ?? "", "utf8"));
    expect(hasBooted(config.layout)).toBe(false);
    await boot(config);
    expect(hasBooted(config.layout)).toBe(true);
    await expectBooted(config);
    expect(existsSync(config.bootstrapFile ?? "")).toBe(false);
    await expect(logIn(config, password)).rejects.toMatchObject({ errcode: "M_FORBIDDEN" });
    const secret = read(config, "machine-key.txt");
    const permanent = new Bun.CryptoHasher("sha256")
      .update(`bureau-machine-permanent:${config.machine}:${secret}`)
      .digest("hex");
    expect((await logIn(config, permanent)).userId).toBe(userIdOf(config.machine, server));
  });

  test("without any source fails before it makes a key", async () => {
    const config = { ...newMachine(), bootstrapFile: undefined };
    await expect(boot(config)).rejects.toThrow("has not joined its fleet");
    expect(existsSync(inState(config, "machine-key.txt"))).toBe(false);
  });

  test.each([
    ["server_name", "elsewhere.org"],
    ["machine_name", "bureau/fleet/test/machine/other"],
    ["fleet_prefix", "bureau/fleet/other"],
  ])("for another machine (%s) is refused before it makes a key", async (field, value) => {
    const config = newMachine();
    await provision(config, { [field]: value });
    await expect(boot(config)).rejects.toThrow(`its ${field} is "${value}"`);
    expect(existsSync(inState(config, "machine-key.txt"))).toBe(false);
  });

  test("that is malformed names the field and not the password", async () => {
    const config = newMachine();
    await provision(config, { password: "hunter2" });
    const message = await boot(config).catch((error: Error) => error.message);
    expect(message).toContain("password");
    expect(message).not.toContain("hunter2");
  });

  test("is good until it expires, and refused afterwards before a key is made", async () => {
    const at = Date.parse("2026-06-01T12:00:00Z");
    const bootAt = (config: FirstBootConfig, now: number): Promise<void> =>
      firstBoot(config, { clock: { ...systemClock, now: () => now }, log: silentLog, signal: never });
    const late = newMachine();
    await provision(late, { expires_at: "2026-06-01T12:00:00Z" });
    await expect(bootAt(late, at)).rejects.toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining("expired at 2026-06-01T12:00:00Z"),
      hint: expect.stringContaining(`bureau machine provision ${late.machine}`),
    });
    expect(existsSync(inState(late, "machine-key.txt"))).toBe(false);
    expect(existsSync(late.bootstrapFile ?? "")).toBe(true);
    await bootAt(late, at - 1);
    await expectBooted(late);
  });

  test("whose expiry is no time is malformed, never without end", async () => {
    const config = newMachine();
    await provision(config, { expires_at: "tomorrow" });
    await expect(boot(config)).rejects.toThrow("missing or malformed: expires_at");
  });

  test("that another machine used already fails and leaves no session", async () => {
    const thief = newMachine();
    await provision(thief);
    const dir = join(thief.layout.stateDir, "../late");
    const late: FirstBootConfig = {
      ...thief,
      layout: { ...thief.layout, stateDir: dir },
      bootstrapFile: `${thief.bootstrapFile}.copy`,
    };
    writeFileSync(late.bootstrapFile ?? "", readFileSync(thief.bootstrapFile ?? ""));
    await boot(thief);
    await expect(boot(late)).rejects.toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining("was used already"),
    });
    expect(hasBooted(late.layout)).toBe(false);
  });
});

/** A way to the homeserver that is cut at the n-th request, before it arrives or before its answer does. */
function cutAt(request: number, when: "before" | "after", abort: () => void): string {
  let seen = 0;
  const gate = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(incoming) {
      const { pathname } = new URL(incoming.url);
      const cut = ++seen === request;
      const forward = (): Promise<Response> =>
        fetch(homeserver.url + pathname, {
          method: incoming.method,
          headers: incoming.headers,
          body: incoming.body,
        });
      if (cut && when === "before") abort();
      if (cut && when === "before") return new Response(null, { status: 599 });
      const answer = await forward();
      const body = await answer.text();
      if (cut) abort();
      return new Response(cut ? null : body, { status: cut ? 599 : answer.status });
    },
  });
  gates.push({ stop: () => void gate.stop(true) });
  return `http://127.0.0.1:${gate.port}`;
}

describe("first boot that was cut off", () => {
  // login, two rounds of the password change, join, publish, join: six requests.
  for (const request of [1, 2, 3, 4, 5, 6])
    for (const when of ["before", "after"] as const)
      test(`${when} request ${request} completes when it is run again`, async () => {
        const config = newMachine();
        const crash = new AbortController();
        const url = cutAt(request, when, () => crash.abort());
        await provision(config, { homeserver_url: url });
        const first = await boot(config, crash.signal).then(
          () => "done",
          () => "cut",
        );
        // The last request is best effort: its loss does not matter.
        expect(first).toBe(request === 6 ? "done" : "cut");
        if (first === "done") return await expectBooted(config);
        expect(hasBooted(config.layout)).toBe(false);
        const key = read(config, "machine-key.txt");
        await boot(config);
        expect(read(config, "machine-key.txt")).toBe(key);
        await expectBooted(config);
      });

  test("for a moment by the network alone waits and completes by itself", async () => {
    const config = newMachine();
    await provision(config, { homeserver_url: cutAt(2, "before", () => {}) });
    await boot(config);
    await expectBooted(config);
  });
});

test("with a registration token registers, and a second time logs in", async () => {
  const config: FirstBootConfig = { ...newMachine(), bootstrapFile: undefined };
  const file = join(root, "token");
  writeFileSync(file, "registration\n");
  await boot({ ...config, registrationTokenFile: file });
  await expectBooted(config);
  rmSync(inState(config, "session.json"));
  await boot({ ...config, registrationTokenFile: file });
  await expectBooted(config);
  writeFileSync(file, "wrong");
  const other: FirstBootConfig = { ...newMachine(), bootstrapFile: undefined, registrationTokenFile: file };
  await expect(boot(other)).rejects.toThrow("Cannot register");
});

describe("a bootstrap file beside a session", () => {
  const deps = { clock: systemClock, log: silentLog, signal: never };

  async function booted(): Promise<FirstBootConfig> {
    const config = newMachine();
    await provision(config);
    await boot(config);
    return config;
  }

  async function resetPassword(config: FirstBootConfig, password: string): Promise<void> {
    const user = encodeURIComponent(`@${config.machine}:${server}`);
    const response = await fetch(`${homeserver.url}/_synapse/admin/v1/reset_password/${user}`, {
      method: "POST",
      headers: { authorization: `Bearer ${adminToken}` },
      body: JSON.stringify({ new_password: password }),
    });
    expect(response.status).toBe(200);
  }

  function place(config: FirstBootConfig, password: string): void {
    const content = {
      homeserver_url: homeserver.url,
      server_name: server,
      machine_name: config.machine,
      password,
      fleet_prefix: fleet,
    };
    writeFileSync(config.bootstrapFile ?? "", JSON.stringify(content), { mode: 0o600 });
  }

  test("whose password works begins a new life, with another key", async () => {
    const config = await booted();
    const key = read(config, "machine-key.txt");
    await resetPassword(config, "b".repeat(64));
    place(config, "b".repeat(64));
    await forgetOldMembership(config, deps);
    expect(hasBooted(config.layout)).toBe(false);
    await boot(config);
    await expectBooted(config);
    expect(read(config, "machine-key.txt")).not.toBe(key);
  });

  test("that was used already is removed, and the machine keeps its session", async () => {
    const config = await booted();
    const before = [read(config, "machine-key.txt"), read(config, "session.json")];
    place(config, "c".repeat(64));
    await forgetOldMembership(config, deps);
    expect(existsSync(config.bootstrapFile ?? "")).toBe(false);
    expect([read(config, "machine-key.txt"), read(config, "session.json")]).toEqual(before);
  });

  test("that cannot be read, or whose homeserver is away, changes nothing", async () => {
    const config = await booted();
    for (const text of ["not JSON", JSON.stringify({ machine_name: "other" })]) {
      writeFileSync(config.bootstrapFile ?? "", text);
      await forgetOldMembership(config, deps);
      await expectBooted(config);
      expect(readFileSync(config.bootstrapFile ?? "", "utf8")).toBe(text);
    }
  });
});
