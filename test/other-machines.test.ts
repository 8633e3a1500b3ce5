/**
 * Commands about other machines, against a real homeserver. The machines are accounts that a heartbeat was written with,
 * or none yet; nothing runs on them.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import {
  fleetLocalpart,
  machineLocalpart,
  parseNamespace,
  parseServerName,
  principalLocalpart,
  rooms,
  stateKeyOf,
  userIdOf,
} from "@bureau/schema/refs";
import type { CommandResult } from "@bureau/testkit/bureau";
import type { EmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { configPlace, readAssignments } from "../packages/control/src/machines/machine-config.ts";
import { roomOf } from "../packages/control/src/rooms/places.ts";
import { FleetOfAccounts, resultOf } from "./contract/fleet-of-accounts.ts";

setDefaultTimeout(60_000);

const namespace = parseNamespace("bureau");
const fleet = fleetLocalpart(namespace, "prod");
const other = fleetLocalpart(namespace, "test");
const online = machineLocalpart(fleet, "online");
const away = machineLocalpart(fleet, "away");
const server = parseServerName("bureau.local");
const runs = userIdOf(principalLocalpart(fleet, "agent/runs"), server);

let accounts: FleetOfAccounts;
let dir: string;
let homeserver: EmbeddedHomeserver;
let session: MatrixSession;

const bureau = (...args: string[]): Promise<CommandResult> => accounts.run(...args);
const run = (...args: string[]): Promise<CommandResult> => resultOf(accounts.spawn(args));

beforeAll(async () => {
  accounts = await FleetOfAccounts.start([fleet, other]);
  ({ dir, homeserver, session } = accounts);
  const machine = await accounts.join(online, { hostname: "gpu box" });
  await accounts.join(away, { hostname: "gpu box" });
  await accounts.join(machineLocalpart(other, "online"), { hostname: "gpu box" });
  const room = await roomOf(session, rooms.fleetMachines(fleet));
  await machine.putState(room, eventTypes.machineStatus, stateKeyOf(machine.userId), {
    principal: machine.userId,
    cpu_percent: 1,
    memory_used_mb: 1,
    uptime_seconds: 1,
    sandboxes: { running: 1, idle: 0 },
    principals: { [runs]: { cpu_percent: 0, memory_mb: 1, status: "idle" } },
  });
});
afterAll(() => accounts[Symbol.asyncDispose]());

const create = (name: string, machine: string, ...flags: string[]): Promise<CommandResult> =>
  bureau("agent", "create", name, "--machine", machine, "--command", "sleep 1", ...flags);

test("machine list shows online machines, and when each was last seen", async () => {
  const { machines } = JSON.parse((await bureau("machine", "list", fleet, "--json")).stdout) as {
    machines: { name: string; state: string; last_seen?: string }[];
  };
  expect(machines.map(({ name, state }) => [name, state])).toEqual([
    [away, "offline"],
    [online, "online"],
  ]);
  expect(machines[1]?.last_seen).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/u);
  const { stdout } = await bureau("machine", "list", fleet);
  expect(stdout).toMatch(/machine\/online +online .*Z \((?:now|\d+ (?:s|min) ago)\)/u);
  expect(stdout).toMatch(/machine\/away +offline .* never/u);
});

test("machine list shows the usage of a machine that does not report its capacity", async () => {
  const info = await session.getState(
    await roomOf(session, rooms.fleetMachines(fleet)),
    eventTypes.machineInfo,
    stateKeyOf(userIdOf(online, server)),
  );
  const put = async (content: object) =>
    session.putState(
      await roomOf(session, rooms.fleetMachines(fleet)),
      eventTypes.machineInfo,
      stateKeyOf(userIdOf(online, server)),
      content,
    );
  const listed = async () => (await bureau("machine", "list", fleet)).stdout;
  await put({ ...(info as object), labels: { gpu: "a100", constructor: "x" } });
  expect(await listed()).toMatch(/gpu box .* 1 of 1 MB/u);
  await put({ hostname: 5 });
  expect(await listed()).toMatch(/machine\/online +online .* 1 MB /u);
  await put(info as object);
  expect(await listed()).toContain("gpu box");
});

describe("agents of another machine", () => {
  test("have the state from its heartbeat: running, or not", async () => {
    for (const name of ["runs", "ended"]) expect((await create(name, online)).code).toBe(0);
    const listed = await bureau("agent", "list", "--machine", online, "--json");
    const agents = JSON.parse(listed.stdout) as { name: string; state: string; reason?: string }[];
    expect(agents.map(({ name, state }) => [name, state])).toEqual([
      ["ended", "not-running"],
      ["runs", "running"],
    ]);
    expect(agents[0]?.reason).toContain("as of ");
    // A person copies a command from a table or a hint and runs it.
    const { stdout } = await bureau("agent", "list", "--machine", online);
    expect(stdout).toMatch(/; why: \/\S+\/bureau matrix messages /u);
  });

  test("are created on an offline machine with a warning, and exit code 1 without --no-wait", async () => {
    const waited = await create("later", away, "--json");
    expect(waited.code).toBe(1);
    expect(JSON.parse(waited.stdout)).toMatchObject({
      ok: false,
      state: "assigned",
      reason: `${away} has never been online`,
    });
    const text = await create("later", away, "--no-wait");
    expect(text.code).toBe(0);
    expect(text.stderr).toContain("has never been online and starts it when it is back");
    const place = await configPlace(session, away);
    expect((await readAssignments(session, place)).assignments).toHaveLength(1);
    const { stdout } = await bureau("agent", "list", "--machine", away);
    expect(stdout).toMatch(/later +unknown .*has never been online/u);
  });

  test("follow a change of their template when their machine is back, with a warning", async () => {
    const update = ["template", "update", "bureau/template:agent", "--fleet", fleet, "--env", "A=1"];
    const { code, stderr } = await bureau(...update, "--dry-run");
    expect(code).toBe(0);
    expect(stderr).toContain(`${away} has never been online: it applies the change when it is back`);
    expect(stderr).not.toContain(`${online} `);
    const { principals } = JSON.parse((await bureau(...update, "--json")).stdout) as {
      principals: { machine: string; machine_state: string }[];
    };
    expect(principals).toContainEqual(expect.objectContaining({ machine: away, machine_state: "offline" }));
    expect(principals).toContainEqual(expect.objectContaining({ machine: online, machine_state: "online" }));
  });

  test("are destroyed there, without a claim that they have stopped", async () => {
    const { code, stderr } = await bureau("agent", "destroy", "later", "--machine", away);
    expect(code).toBe(1);
    expect(stderr).toContain(`is no longer assigned to ${away}, which has never been online`);
    const there = await bureau("agent", "destroy", "ended", "--machine", online, "--json");
    expect(JSON.parse(there.stdout)).toMatchObject({ ok: true, stopped: false });
  });

  test("run on that machine: logs prints the command to type there", async () => {
    const { code, stderr } = await bureau("agent", "logs", "runs", "--machine", online);
    expect(code).toBe(1);
    expect(stderr).toContain("only that machine can read it");
    expect(stderr).toContain("→ ssh 'gpu box' /var/bureau/bin/bureau agent logs agent/runs");
  });
});

test("an upgrade of an offline machine is requested with a warning", async () => {
  const { code, stderr } = await bureau("machine", "upgrade", away, "--host-env", "/opt/b", "--on-machine");
  expect([code, stderr]).toEqual([
    0,
    expect.stringContaining("has never been online and upgrades when it is back"),
  ]);
});

test("login explains a wrong password and a wrong address", async () => {
  writeFileSync(join(dir, "password"), "wrong\n");
  const at = async (address: string): Promise<string> => {
    const given = ["--homeserver", address, "--password-file", join(dir, "password")];
    const { code, stderr } = await run("login", "alice", ...given);
    expect([code, stderr]).toEqual([1, expect.not.stringMatching(/M_[A-Z]|url\?/u)]);
    return stderr;
  };
  expect(await at(homeserver.url)).toContain("the user name or the password is wrong");
  expect(await at("http://127.0.0.1:1")).toContain("nothing listens there (ECONNREFUSED)");
  expect(await at(`unix:${join(dir, "none")}`)).toContain("Cannot log in");
});

test("--purge of an unknown name creates no account", async () => {
  const { code, stderr } = await bureau("agent", "destroy", "typo", "--machine", online, "--purge");
  expect([code, stderr]).toEqual([1, expect.stringContaining("There is no account")]);
  expect((await create("typo", online)).code).toBe(0);
  expect((await bureau("agent", "destroy", "typo", "--machine", online, "--purge")).code).toBe(0);
});

describe("a payload", () => {
  const set = (payload: string): Promise<CommandResult> => create("paid", online, "--payload", payload);

  test("arrives with all its keys", async () => {
    const payload = '{"__proto__":{"a":1},"constructor":"x","list":[1]}';
    expect((await set(payload)).code).toBe(0);
    const { assignments } = await readAssignments(session, await configPlace(session, online));
    const found = assignments.find(({ principal }) => principal.includes("/agent/paid:"));
    expect(JSON.parse(JSON.stringify(found?.payload))).toEqual(JSON.parse(payload));
    expect(Object.keys(found?.payload ?? {}).sort()).toEqual(["__proto__", "constructor", "list"]);
  });

  test("that no event can hold is refused with a reason before any write", async () => {
    for (const [payload, why] of [
      ["[1]", "--payload: expected an object but received"],
      ["{", "Invalid --payload: it is not JSON"],
      ['{"model":{"temperature":0.5}}', '"model.temperature" is 0.5'],
      [JSON.stringify({ text: "x".repeat(70_000) }), "a Matrix event holds 65536"],
    ] as const) {
      const { code, stderr } = await set(payload);
      expect([code, stderr]).toEqual([1, expect.stringContaining(why)]);
      expect(stderr).not.toMatch(/M_[A-Z]|HTTP|^ +at /mu);
    }
  });

  test("an invalid one from another tool is counted in lists, with the command that names it", async () => {
    const place = await configPlace(session, online);
    const content = (await session.getState(place.room, eventTypes.machineConfig, place.key)) as {
      principals: object[];
    };
    const broken = { ...content.principals[0], labels: { constructor: "x" } };
    const principals = [...content.principals, broken];
    await session.putState(place.room, eventTypes.machineConfig, place.key, { ...content, principals });
    for (const command of [
      ["agent", "list", "--machine", online],
      ["machine", "show", online],
    ]) {
      const { code, stderr } = await bureau(...command);
      expect([code, stderr]).toEqual([0, expect.stringContaining("configuration that cannot be read: 1")]);
      expect(stderr).toContain(`machine config ${online} names them`);
    }
    const named = await bureau("machine", "config", online);
    expect(named.stdout + named.stderr).toContain('labels: a key may not be called "constructor"');
    await session.putState(place.room, eventTypes.machineConfig, place.key, content);
  });

  test("that makes the machine's whole configuration too large is refused", async () => {
    const large = JSON.stringify({ text: "x".repeat(33_000) });
    expect((await set(large)).code).toBe(0);
    const { code, stderr } = await create("paid-too", online, "--payload", large);
    expect([code, stderr]).toEqual([1, expect.stringContaining("its 2 agents fill the configuration")]);
    await bureau("agent", "destroy", "paid", "--machine", online);
  });
});

test("--fleet selects among machines of one name, and is never ignored", async () => {
  const wrong = await bureau("agent", "destroy", "runs", "--machine", online, "--fleet", other);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain(`is in the fleet "${fleet}", not in "${other}"`);
  const short = await bureau("agent", "destroy", "runs", "--machine", "online", "--fleet", other);
  expect(short.stderr).toContain(`is not assigned to "${other}/machine/online"`);
  const { assignments } = await readAssignments(session, await configPlace(session, online));
  expect(assignments.map(({ principal }) => principal)).toEqual([runs]);
});

describe("an unknown name is reported with its kind and the existing names", () => {
  const said = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await bureau(...args);
    expect([code, stderr]).toEqual([1, expect.not.stringContaining("There is no room")]);
    return stderr;
  };

  test("a namespace, a fleet, a machine", async () => {
    expect(await said("machine", "list", "burau/fleet/prod")).toContain('There is no namespace "burau" on');
    const wrong = await said("machine", "list", "bureau/fleet/prud");
    expect(wrong).toContain('There is no fleet "bureau/fleet/prud" on bureau.local');
    expect(wrong).toContain(`did you mean "${fleet}"?`);
    expect(await said("rollout", "list", "--fleet", "bureau/fleet/quite-another")).toContain(
      `→ fleets: ${fleet}, ${other}`,
    );
    for (const args of [
      ["agent", "list", "--machine", `${fleet}/machine/onlin`],
      ["agent", "destroy", "runs", "--machine", `${fleet}/machine/onlin`],
      ["machine", "upgrade", `${fleet}/machine/onlin`, "--rollback"],
    ]) {
      const text = await said(...args);
      expect(text).toContain(`There is no machine "${fleet}/machine/onlin" in the fleet`);
      expect(text).toContain(`did you mean "${online}"?`);
    }
  });

  test("an agent, a template, a rollout", async () => {
    expect(await said("agent", "show", "run", "--machine", online)).toContain('did you mean "agent/runs"?');
    const on = ["--machine", online];
    expect(await said("agent", "create", "x", "--template", "bureau/template:agnt", ...on)).toContain(
      'did you mean "bureau/template:agent"?',
    );
    expect(await said("template", "show", "burau/template:agent")).toContain('There is no namespace "burau"');
    expect(
      await said("template", "update", "bureau/template:agnt", "--description", "x", ...inFleet),
    ).toContain('There is no template "bureau/template:agnt"');
    expect(await said("rollout", "show", "1", ...inFleet)).toContain('There is no rollout "1" in this fleet');
  });
  const inFleet = ["--fleet", fleet];
});
