/**
 * The upgrade commands against a real homeserver. The machines are a stand-in, for these tests only: it answers
 * requests in Matrix as a machine's daemon does, after a moment, and replaces nothing.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import type { MatrixSession } from "@bureau/matrix/session";
import { takeTurn } from "@bureau/os/turn";
import { eventTypes, type MachineVersion } from "@bureau/schema/events";
import {
  aliasOf,
  fleetLocalpart,
  type MachineLocalpart,
  machineLocalpart,
  parseNamespace,
  parseServerName,
  principalLocalpart,
  rooms,
  stateKeyOf,
  userIdOf,
} from "@bureau/schema/refs";
import type { CommandResult } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";
import {
  configPlace,
  editAssignment,
  readAssignments,
  readDesiredVersion,
} from "../packages/control/src/machines/machine-config.ts";
import { readMachineVersion } from "../packages/control/src/machines/machine-version.ts";
import { readUnlessLater } from "../packages/control/src/rollouts/rollout-order.ts";
import { isUnderWay } from "../packages/control/src/rollouts/rollout-plan.ts";
import { createRollout, listRollouts, readRollout } from "../packages/control/src/rollouts/rollout-store.ts";
import { roomOf, roomOfFleet } from "../packages/control/src/rooms/places.ts";
import { type Command, FleetOfAccounts, resultOf } from "./contract/fleet-of-accounts.ts";

setDefaultTimeout(60_000);

const namespace = parseNamespace("bureau");
const fleet = fleetLocalpart(namespace, "local");
const machines = ["m1", "m2", "m3", "m4"].map((name) => machineLocalpart(fleet, name));
const [m1, m2, m3, m4] = machines as [MachineLocalpart, MachineLocalpart, MachineLocalpart, MachineLocalpart];
const server = parseServerName("bureau.local");

let accounts: FleetOfAccounts;
let dir: string;
let session: MatrixSession;

/** A folder like a build, with different contents. */
function makeEnvironment(name: string): string {
  const path = join(dir, name);
  mkdirSync(join(path, "bin"), { recursive: true });
  const programs = ["bureau-daemon", "bureau-launcher", "bureau-proxy"];
  for (const program of programs) writeFileSync(join(path, "bin", program), `${name}\n`);
  writeFileSync(
    join(path, "build.json"),
    JSON.stringify({ version: `1.0-${name}`, runtime: "1", programs: programsOf(name, programs) }),
  );
  return path;
}
const programsOf = (name: string, programs: readonly string[]): Record<string, object> =>
  Object.fromEntries(programs.map((program) => [program, { sha256: `${name}-${program}`, bytes: 1 }]));

/** The report of a machine that runs the build `name`. */
const versionOf = (name: string): MachineVersion => ({
  host_environment_path: join(dir, name),
  version: `1.0-${name}`,
  programs: {
    "bureau-daemon": `${name}-bureau-daemon`,
    "bureau-launcher": `${name}-bureau-launcher`,
    "bureau-proxy": `${name}-bureau-proxy`,
  },
  state: "running",
  history: [],
});

/** Acts as the daemons until disposed. Machines roll back from the builds in `bad`. */
function answerRequests(
  options: { bad?: (machine: string, path: string) => boolean; silent?: readonly string[] } = {},
): AsyncDisposable {
  const stop = new AbortController();
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      for (const machine of machines)
        if (options.silent?.includes(machine) !== true) await answer(machine, options.bad);
      await Bun.sleep(20);
    }
  };
  const running = loop();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

async function answer(
  machine: MachineLocalpart,
  bad: (machine: string, path: string) => boolean = () => false,
): Promise<void> {
  const place = await configPlace(session, machine);
  const desired = await readDesiredVersion(session, place);
  const now = await readMachineVersion(session, place);
  const path = desired?.host_environment_path;
  const requestId = desired?.request_id;
  if (now === undefined || path === undefined || requestId === undefined) return;
  if (now.history.some(({ request_id }) => request_id === requestId)) return;
  begun.push(`${machine} ${requestId}`);
  const write = (version: MachineVersion): Promise<unknown> =>
    own(machine).putState(place.room, eventTypes.machineVersion, place.key, version);
  await write({ ...now, state: "upgrading", step: "daemon", request_id: requestId });
  const isBad = bad(machine, path);
  const entry = {
    request_id: requestId,
    host_environment_path: path,
    requested_by: session.userId,
    finished_at: new Date().toISOString(),
    duration_ms: 1_234,
    ...(isBad
      ? { outcome: "rolled-back" as const, reason: "no heartbeat" }
      : { outcome: "succeeded" as const }),
  };
  const { step: _, reason: __, ...before } = now;
  const history = [entry, ...now.history];
  await write(
    isBad
      ? { ...before, state: "failed", request_id: requestId, reason: "no heartbeat", history }
      : {
          ...versionOf(path.slice(dir.length + 1)),
          previous_host_environment_path: now.host_environment_path,
          request_id: requestId,
          history,
        },
  );
}
let begun: string[] = [];

/** Only a machine itself may report its state. */
const sessions = new Map<MachineLocalpart, MatrixSession>();
function own(machine: MachineLocalpart): MatrixSession {
  const opened = sessions.get(machine);
  if (opened === undefined) throw new Error(`${machine} has no session`);
  return opened;
}

async function setUpMachine(machine: MachineLocalpart): Promise<void> {
  const labels = { odd: machine.endsWith("1") ? "yes" : "no" };
  sessions.set(machine, await accounts.join(machine, { hostname: "h", labels }));
  await startAgain(machine);
}

/** As if it had just started with the build `old`. */
async function startAgain(machine: MachineLocalpart): Promise<void> {
  const room = await roomOf(session, rooms.fleetMachines(fleet));
  const place = await configPlace(session, machine);
  await own(machine).putState(room, eventTypes.machineStatus, place.key, {
    principal: userIdOf(machine, server),
    cpu_percent: 1,
    memory_used_mb: 1,
    uptime_seconds: 1,
    sandboxes: { running: 0, idle: 0 },
  });
  const { assignments } = await readAssignments(session, place);
  await session.putState(place.room, eventTypes.machineConfig, place.key, { principals: assignments });
  await own(machine).putState(place.room, eventTypes.machineVersion, place.key, versionOf("old"));
}

/** `host` gives a command its own locks, as on another host. */
const commandOn = (host: string, ...args: string[]): Command =>
  accounts.spawn([...args, "--credential-file", accounts.credentials, "--fleet", fleet], host);
const command = (...args: string[]): Command => commandOn("here", ...args);
const bureau = (...args: string[]): Promise<CommandResult> => resultOf(command(...args));
const upgrade = (...args: string[]) => bureau("machine", "upgrade", ...args);
type Ended = { id: string; state: string; machines: { machine: string; state: string }[] };
const statesOf = (ended: Ended): Record<string, string> =>
  Object.fromEntries(ended.machines.map(({ machine, state }) => [machine.slice(-2), state]));

beforeAll(async () => {
  accounts = await FleetOfAccounts.start([fleet]);
  ({ dir, session } = accounts);
  for (const name of ["old", "new", "broken", "next", "last", "two"]) makeEnvironment(name);
  for (const machine of machines) await setUpMachine(machine);
});
afterAll(() => accounts[Symbol.asyncDispose]());

describe("bureau machine upgrade of one machine", () => {
  test("reports what would change and which agents it affects, and does nothing", async () => {
    const place = await configPlace(session, m1);
    const demo = principalLocalpart(fleet, "agent/demo");
    await editAssignment({ session, takeTurn }, place, userIdOf(demo, server), {
      principal: userIdOf(demo, server),
      template: "bureau/template:agent",
      auto_start: true,
    });
    const shown = await upgrade(m1, "--host-env", join(dir, "new"), "--on-machine", "--dry-run");
    expect(shown.code).toBe(0);
    expect(shown.stdout).toContain(demo);
    expect(await readDesiredVersion(session, place)).toBeUndefined();
  });

  test("is followed to its end, keeps the assignments, and is undone by --rollback", async () => {
    await using _daemons = answerRequests();
    const up = await upgrade(m1, "--host-env", join(dir, "new"), "--on-machine", "--wait", "--json");
    expect(JSON.parse(up.stdout)).toMatchObject({
      machine: m1,
      outcome: "succeeded",
      duration_ms: 1_234,
      previous: join(dir, "old"),
    });
    expect(up.code).toBe(0);
    const place = await configPlace(session, m1);
    expect((await readAssignments(session, place)).assignments).toHaveLength(1);
    expect(await readDesiredVersion(session, place)).toMatchObject({
      daemon_store_path: join(dir, "new/bin/bureau-daemon"),
      requested_by: session.userId,
    });
    const back = await upgrade(m1, "--rollback", "--wait", "--json");
    expect(JSON.parse(back.stdout)).toMatchObject({
      outcome: "succeeded",
      host_environment_path: join(dir, "old"),
    });
    const { stdout } = await bureau("machine", "show", m1);
    expect(stdout).toContain("1.0-old");
    expect(stdout.match(/succeeded/gu)).toHaveLength(2);
  });

  test("that is rolled back exits 1, with the machine's reason and what to type", async () => {
    await using _daemons = answerRequests({ bad: (_, path) => path.endsWith("broken") });
    const up = await upgrade(m1, "--host-env", join(dir, "broken"), "--on-machine", "--wait", "--json");
    expect(up.code).toBe(1);
    expect(JSON.parse(up.stdout)).toMatchObject({ outcome: "rolled-back", reason: "no heartbeat" });
    expect(up.stderr).toContain(`bureau machine show ${m1}`);
  });

  test("without an answer ends at --timeout", async () => {
    const up = await upgrade(m2, "--host-env", join(dir, "new"), "--on-machine", "--wait", "--timeout", "1s");
    expect(up.code).toBe(1);
    expect(up.stderr).toContain("it has not begun");
    await startAgain(m2);
  });

  test("refuses a folder without a build, and a folder of this host for another one", async () => {
    cpSync(join(dir, "new"), join(dir, "half"), { recursive: true });
    rmSync(join(dir, "half/bin/bureau-proxy"));
    for (const [path, why] of [
      [join(dir, "nowhere"), "There is no build"],
      [tmpdir(), "it has no build.json"],
      [join(dir, "half"), "it has no bin/bureau-proxy"],
      [join(dir, "new"), "is a folder of this host"],
    ] as const) {
      const { code, stderr } = await upgrade(m2, "--host-env", path);
      expect(code).toBe(1);
      expect(stderr).toContain(why);
    }
    expect((await upgrade(m2)).code).toBe(2);
    expect((await upgrade(m2, "--all", "--rollback")).code).toBe(2);
  });
});

describe("a rollout", () => {
  const rollOut = (name: string, ...args: string[]) =>
    upgrade("--all", "--host-env", join(dir, name), "--on-machine", "--batch", "2", ...args);

  test("that halted at a failure continues when the same command is run again", async () => {
    for (const machine of machines) await startAgain(machine);
    {
      await using _daemons = answerRequests({ bad: (machine) => machine === m2 });
      const { code, stdout } = await rollOut("new", "--json");
      expect(code).toBe(1);
      const halted = JSON.parse(stdout) as Ended;
      expect(halted.state).toBe("halted");
      expect(statesOf(halted)).toEqual({ m1: "succeeded", m2: "failed", m3: "succeeded", m4: "pending" });
    }
    begun = [];
    await using _daemons = answerRequests();
    const { code, stdout } = await rollOut("new", "--json");
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as Ended).state).toBe("done");
    expect(begun.map((one) => one.split(" ")[0] ?? "").sort()).toEqual([m2, m4]);
    expect((await bureau("rollout", "list")).stdout).toContain("4 of 4 succeeded");
  });

  test("rolls back every machine when asked to", async () => {
    for (const machine of machines) await startAgain(machine);
    await using _daemons = answerRequests({
      bad: (machine, path) => machine === m3 && path.endsWith("broken"),
    });
    const { code, stdout } = await rollOut("broken", "--rollback-on-error", "--json");
    expect(code).toBe(1);
    const ended = JSON.parse(stdout) as Ended;
    expect(ended.state).toBe("rolled-back");
    for (const machine of machines)
      expect((await readMachineVersion(session, await configPlace(session, machine)))?.version).toBe(
        "1.0-old",
      );
  });

  test("whose controller is killed is in Matrix, and another continues without asking a machine twice", async () => {
    for (const machine of machines) await startAgain(machine);
    begun = [];
    const driver = command("machine", "upgrade", "--all", "--host-env", join(dir, "next"), "--on-machine");
    let id: string;
    {
      await using _daemons = answerRequests({ silent: [m2, m3, m4] });
      id = await eventually(async () => {
        const { rollouts } = JSON.parse((await bureau("rollout", "list", "--json")).stdout) as {
          rollouts: Ended[];
        };
        const [newest] = rollouts;
        return newest?.state === "running" && statesOf(newest)["m2"] === "upgrading" ? newest.id : undefined;
      });
      driver.kill("SIGKILL");
      await driver.exited;
    }
    await using _daemons = answerRequests();
    const both = await Promise.all([upgrade("--resume", id, "--json"), upgrade("--resume", id, "--json")]);
    // On one host the second is told that the first is at work.
    expect(both.map(({ code }) => code).sort()).toEqual([0, 1]);
    expect(begun.map((one) => one.split(" ")[0] ?? "").sort()).toEqual(machines);
    expect(new Set(begun).size).toBe(4);
    expect((await upgrade("--resume", id)).stderr).toContain("is over: done");
  });

  test("driven from two hosts at once asks every machine once", async () => {
    for (const machine of machines) await startAgain(machine);
    begun = [];
    const driver = command("machine", "upgrade", "--all", "--host-env", join(dir, "two"), "--on-machine");
    const id = await eventually(async () => {
      const { rollouts } = JSON.parse((await bureau("rollout", "list", "--json")).stdout) as {
        rollouts: Ended[];
      };
      return rollouts[0]?.state === "running" ? rollouts[0].id : undefined;
    });
    const other = resultOf(commandOn("there", "machine", "upgrade", "--resume", id, "--json"));
    await using _daemons = answerRequests();
    expect((await other).code).toBe(0);
    expect((await resultOf(driver)).code).toBe(0);
    expect(begun.map((one) => one.split(" ")[0] ?? "").sort()).toEqual(machines);
  });

  test("by label asks only those machines", async () => {
    for (const machine of machines) await startAgain(machine);
    begun = [];
    await using _daemons = answerRequests();
    const path = join(dir, "last");
    const { code } = await upgrade("--label", "odd=yes", "--host-env", path, "--on-machine");
    expect(code).toBe(0);
    expect(begun.map((one) => one.split(" ")[0] ?? "")).toEqual([m1]);
  });

  test("that is halted by command starts no more machines, and its controller ends after the running ones", async () => {
    for (const machine of machines) await startAgain(machine);
    begun = [];
    const driving = rollOut("last", "--json");
    const id = await eventually(async () => {
      const { rollouts } = JSON.parse((await bureau("rollout", "list", "--json")).stdout) as {
        rollouts: Ended[];
      };
      const [newest] = rollouts;
      return newest?.state === "running" && statesOf(newest)["m1"] === "upgrading" ? newest.id : undefined;
    });
    // A second one is refused while this one runs.
    expect((await rollOut("next")).stderr).toContain(`bureau rollout halt ${id}`);
    expect((await bureau("rollout", "halt", id)).code).toBe(0);
    await using _daemons = answerRequests();
    const { code, stdout } = await driving;
    expect(code).toBe(1);
    const ended = JSON.parse(stdout) as Ended;
    expect(ended.state).toBe("halted");
    expect(statesOf(ended)).toEqual({ m1: "succeeded", m2: "pending", m3: "pending", m4: "pending" });
    expect((await bureau("rollout", "show", id)).stdout).toContain("is halted");
  });

  test("that halted is started again with other flags, and after a later rollout", async () => {
    for (const machine of machines) await startAgain(machine);
    const back = ["--rollback-on-error"];
    await using _daemons = answerRequests({
      bad: (machine, path) => machine === m2 && path.endsWith("broken"),
    });
    const halted = JSON.parse((await rollOut("broken", "--json")).stdout) as Ended;
    expect(halted.state).toBe("halted");
    const other = JSON.parse((await rollOut("broken", ...back, "--json")).stdout) as Ended;
    expect(other.id).not.toBe(halted.id);
    expect(other.state).toBe("rolled-back");
    expect((await rollOut("new")).code).toBe(0);
    begun = [];
    const late = JSON.parse((await rollOut("broken", "--json")).stdout) as Ended;
    expect(late.id).not.toBe(halted.id);
    // Its state of m1 was outdated.
    expect(begun.map((one) => one.split(" ")[0] ?? "")).toContain(m1);
  });

  test("that was halted without a controller continues with the running and the remaining machines", async () => {
    for (const machine of machines) await startAgain(machine);
    const driver = command("machine", "upgrade", "--all", "--host-env", join(dir, "two"), "--on-machine");
    const id = await eventually(async () => {
      const { rollouts } = JSON.parse((await bureau("rollout", "list", "--json")).stdout) as {
        rollouts: Ended[];
      };
      const [newest] = rollouts;
      return newest?.state === "running" && statesOf(newest)["m1"] === "upgrading" ? newest.id : undefined;
    });
    driver.kill("SIGKILL");
    await driver.exited;
    // A second one cannot be resumed either while this one runs.
    const { rollouts } = JSON.parse((await bureau("rollout", "list", "--json")).stdout) as {
      rollouts: Ended[];
    };
    const earlier = rollouts.find(({ state }) => state === "halted")?.id ?? "";
    expect((await upgrade("--resume", earlier)).stderr).toContain(`bureau rollout halt ${id}`);
    expect((await bureau("rollout", "halt", id)).code).toBe(0);
    await using _daemons = answerRequests();
    const resumed = await upgrade("--resume", id, "--json");
    expect(resumed.code).toBe(0);
    expect((JSON.parse(resumed.stdout) as Ended).state).toBe("done");
    // The result of each machine is reported as it arrives.
    for (const name of ["m1", "m2", "m3", "m4"]) expect(resumed.stderr).toContain(`${name} succeeded`);
  });
});

describe("one machine at fault", () => {
  const path = (): string => join(dir, "last");

  test("that cannot be read is skipped, and the others are upgraded", async () => {
    for (const machine of machines) await startAgain(machine);
    const room = await roomOf(session, rooms.fleetMachines(fleet));
    // It has published its state, and its config room is gone.
    const lost = machineLocalpart(fleet, "a0");
    await setUpMachine(lost);
    await session.deleteAlias(aliasOf(rooms.config(lost), server));
    await using _daemons = answerRequests();
    const { stdout, stderr } = await upgrade("--all", "--host-env", path(), "--on-machine", "--json");
    for (const type of [eventTypes.machineKey, eventTypes.machineInfo, eventTypes.machineStatus])
      await session.putState(room, type, stateKeyOf(userIdOf(lost, server)), {});
    if (stdout === "") throw new Error(stderr);
    const states = { m1: "succeeded", m2: "succeeded", m3: "succeeded", m4: "succeeded" };
    expect(statesOf(JSON.parse(stdout) as Ended)).toEqual({ ...states, a0: "skipped" });
  });

  test("that cannot be asked has failed, and the others continue when the flag allows it", async () => {
    for (const machine of machines) await startAgain(machine);
    const place = await configPlace(session, m3);
    await session.putState(place.room, eventTypes.machineConfig, place.key, { principals: "none" });
    await using _daemons = answerRequests();
    const args = ["--all", "--host-env", join(dir, "two"), "--on-machine", "--keep-going", "--json"];
    const { stdout, stderr } = await upgrade(...args);
    await session.putState(place.room, eventTypes.machineConfig, place.key, { principals: [] });
    if (stdout === "") throw new Error(stderr);
    const states = { m1: "succeeded", m2: "succeeded", m3: "failed", m4: "succeeded" };
    expect(statesOf(JSON.parse(stdout) as Ended)).toEqual(states);
  });
});

test("of two concurrent rollouts the earlier continues; the later halts and reports that", async () => {
  for (const machine of machines) await startAgain(machine);
  const driver = command("machine", "upgrade", "--all", "--host-env", join(dir, "next"), "--on-machine");
  const room = await roomOfFleet(session, fleet);
  const later = await eventually(async () => {
    const [newest] = await listRollouts(session, room);
    const isBegun = newest?.rollout.state === "running" && newest.rollout.machines.some(isUnderWay);
    return isBegun ? newest : undefined;
  });
  // As started on another host, which had read the state just before.
  const earlier = { room, id: "earlier" };
  const started_at = new Date(Date.parse(later.rollout.started_at) - 1).toISOString();
  await createRollout(session, earlier, { ...later.rollout, started_at });
  const { code, stderr } = await resultOf(driver);
  expect(code).toBe(1);
  expect(stderr).toContain('The rollout "earlier" is not over');
  expect((await readRollout(session, { room, id: later.id })).rollout.state).toBe("halted");
  expect((await readUnlessLater(session, earlier, systemClock)).rollout.state).toBe("running");
  expect((await bureau("rollout", "halt", "earlier")).code).toBe(0);
});

test("lists machines with versions that distinguish builds of one number, from any host", async () => {
  for (const machine of machines) await startAgain(machine);
  await using _daemons = answerRequests();
  expect((await upgrade(m1, "--host-env", join(dir, "new"), "--on-machine", "--wait")).code).toBe(0);
  const { stdout } = await bureau("machine", "list");
  const names = [...stdout.matchAll(/1\.0-\w+\+[0-9a-f]{8}/gu)].map(([name]) => name);
  expect(names.map((name) => name.split("+")[0])).toEqual(["1.0-new", "1.0-old", "1.0-old", "1.0-old"]);
  expect(new Set(names).size).toBe(2);
  // This host is not a machine.
  const shown = await bureau("machine", "show", m1);
  expect(shown.code).toBe(0);
  expect(shown.stdout).toContain(names[0] ?? "");
});
