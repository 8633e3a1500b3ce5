/** Changing the template of running principals: only its users restart, and a change that breaks them is rolled back. */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { identify, signalProcess } from "@bureau/os/process-table";
import { eventMessages } from "@bureau/schema/events";
import { aliasOf, parseMachine, rooms, serverOf } from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

setDefaultTimeout(120_000);

type Principal = {
  name: string;
  state: string;
  pid?: number;
  health?: string;
  rolled_back?: boolean;
  reason?: string;
};
type Status = { machine: { name: string }; daemon: { pid: number }; principals: Principal[] };
type Update = {
  ok: boolean;
  changed: boolean;
  principals: { principal: string; effect: string; outcome?: string; reason?: string }[];
};

const running = useBureau();
const template = "bureau/template:answering";

const principal = async (name: string): Promise<Principal | undefined> =>
  (await running().json<Status>("status")).principals.find((one) => one.name === name);
const pids = async (...names: string[]): Promise<(number | undefined)[]> =>
  Promise.all(names.map(async (name) => (await principal(name))?.pid));
const until = (what: string, name: string, holds: (one: Principal) => boolean): Promise<Principal> =>
  eventually(
    async () => {
      const found = await principal(name);
      return found !== undefined && holds(found) ? found : undefined;
    },
    { timeoutMs: 60_000, describe: async () => `${what}: ${JSON.stringify(await principal(name))}` },
  );
const isHealthy = (one: Principal): boolean => one.state === "running" && one.health === "healthy";

async function update(...args: string[]): Promise<{ code: number; update: Update }> {
  const { code, stdout, stderr } = await running().run("template", "update", template, ...args, "--json");
  if (stdout === "") throw new Error(stderr);
  return { code, update: JSON.parse(stdout) as Update };
}
const outcomes = ({ principals }: Update): unknown =>
  Object.fromEntries(principals.map((one) => [one.principal, one.outcome ?? one.effect]));

/** The machine's reports of a principal's health, oldest first. */
async function said(name: string): Promise<unknown[]> {
  const session = running().session();
  const machine = parseMachine((await running().json<Status>("status")).machine.name);
  const room = await session.resolveAlias(aliasOf(rooms.config(machine), serverOf(session.userId)));
  if (room === undefined) throw new Error("there is no config room");
  const { chunk } = await session.messages(room, { limit: 200 });
  return chunk
    .map(({ content }) => content as Record<string, unknown>)
    .filter(({ msgtype, principal: who }) => msgtype === eventMessages.healthCheck && who === name)
    .map(({ outcome }) => outcome)
    .reverse();
}

/** A service that answers `health` as its environment and payload say: the bytes of {ok, data: {healthy}} in CBOR. */
const program = `
const { unlinkSync, readFileSync } = require("node:fs");
const path = "/run/bureau/listen/service.sock";
try { unlinkSync(path); } catch {}
require("node:net").createServer((socket) => socket.on("data", () => {
  const sick = process.env.MODE === "broken" || JSON.parse(readFileSync("/run/bureau/payload.json", "utf8")).sick;
  socket.end(Buffer.from("a2626f6bf56464617461a1676865616c746879" + (sick ? "f4" : "f5"), "hex"));
})).listen(path);
`;

beforeAll(async () => {
  const publish = async (name: string, content: object): Promise<void> => {
    const file = join(running().home, "template.json");
    writeFileSync(file, JSON.stringify(content));
    await running().json("template", "publish", `bureau/template:${name}`, "--file", file);
  };
  await publish("answering", {
    inherits: ["bureau/template:service"],
    command: ["/run/bureau/programs/runtime/bun", "-e", program],
    health_check: { type: "socket", interval_seconds: 1, failure_threshold: 2, grace_period_seconds: 5 },
  });
  await publish("heir", { inherits: [template], environment_variables: { HEIR: "1" } });
  const create = (...args: string[]) => running().json("agent", "create", ...args);
  await create("service/direct", "--template", template);
  await create("service/heir", "--template", "bureau/template:heir");
  await create("bystander", "--command", "sleep 1000");
  for (const name of ["service/direct", "service/heir"]) await until("it is healthy", name, isHealthy);
});

describe("a change of a template", () => {
  test("lists beforehand exactly the principals it restarts, directly or through another template", async () => {
    const { code, update: preview } = await update("--env", "MODE=broken", "--dry-run");
    expect(code).toBe(0);
    expect(outcomes(preview)).toEqual({ "service/direct": "restart", "service/heir": "restart" });
    const { update: described } = await update("--description", "it answers", "--dry-run");
    expect(outcomes(described)).toEqual({ "service/direct": "none", "service/heir": "none" });
    const impact = await running().json<Update>("template", "impact", template);
    expect(impact.principals.map((one) => one.principal)).toEqual(["service/direct", "service/heir"]);
    expect(await running().run("template", "update", template)).toMatchObject({ code: 1 });
  });

  test("that breaks them is rolled back, is not tried again, and affects no other principal", async () => {
    const users = ["service/direct", "service/heir"];
    const others = ["agent/bystander", "agent/greeter"];
    const before = { users: await pids(...users), others: await pids(...others) };
    const { code, update: done } = await update("--env", "MODE=broken", "--wait");
    expect(outcomes(done)).toEqual({ "service/direct": "rolled-back", "service/heir": "rolled-back" });
    expect(done.principals[0]?.reason).toContain("health check failed");
    expect({ code, ok: done.ok }).toEqual({ code: 1, ok: false });
    for (const name of users) {
      const back = await until("it is healthy again", name, isHealthy);
      expect(back).toMatchObject({ rolled_back: true, reason: expect.stringContaining("rolled back") });
    }
    const after = await pids(...users);
    expect(after.filter((pid) => before.users.includes(pid))).toEqual([]);
    expect(await pids(...others)).toEqual(before.others);

    // The next daemon knows it too.
    const daemon = identify((await running().json<Status>("status")).daemon.pid);
    if (daemon === undefined) throw new Error("no daemon runs");
    signalProcess(daemon, "SIGKILL");
    await eventually(async () => {
      const { stdout } = await running().run("status", "--json");
      const now = JSON.parse(stdout) as Status;
      const isHealed = now.principals.filter((one) => users.includes(one.name)).every(isHealthy);
      return now.daemon.pid !== daemon.pid && now.principals.length === 4 && isHealed ? true : undefined;
    });
    expect(await pids(...users)).toEqual(after);
    expect(await said("service/direct")).toEqual(["rolled_back"]);
  });

  test("that fixes it is kept", async () => {
    const before = await pids("service/direct", "agent/bystander");
    const { code, update: done } = await update("--env", "MODE=fixed", "--wait");
    expect(outcomes(done)).toEqual({ "service/direct": "healthy", "service/heir": "healthy" });
    expect({ code, ok: done.ok }).toEqual({ code: 0, ok: true });
    const [direct, bystander] = await pids("service/direct", "agent/bystander");
    expect(direct).not.toBe(before[0]);
    expect(bystander).toBe(before[1]);
    expect(await principal("service/direct")).not.toHaveProperty("rolled_back");
    expect((await update("--env", "MODE=fixed")).update.changed).toBe(false);
  });

  test("to a program that cannot run is rolled back after a few tries", async () => {
    const { code, update: done } = await update("--set", 'command=["/no/such/program"]', "--wait");
    expect(outcomes(done)).toEqual({ "service/direct": "rolled-back", "service/heir": "rolled-back" });
    expect(code).toBe(1);
    await until("it is healthy again", "service/direct", isHealthy);
  });
});

test("without a health check rolls back a program that fails or ends at once, even when it had just started", async () => {
  const plain = "bureau/template:plain";
  const file = join(running().home, "template.json");
  writeFileSync(
    file,
    JSON.stringify({ inherits: ["bureau/template:agent"], command: ["/bin/sh", "-c", "sleep 1000"] }),
  );
  await running().json("template", "publish", plain, "--file", file);
  await running().json("agent", "create", "plain", "--template", plain);
  const change = async (command: string): Promise<unknown> => {
    const { stdout } = await running().run(
      ...["template", "update", plain, "--command", command, "--wait", "--json"],
    );
    return outcomes(JSON.parse(stdout) as Update);
  };
  expect(await change("echo no; exit 3")).toEqual({ "agent/plain": "rolled-back" });
  expect(await principal("agent/plain")).toMatchObject({ state: "running", rolled_back: true });
  expect(await change("true")).toEqual({ "agent/plain": "rolled-back" });
  expect(await change("sleep 2000")).toEqual({ "agent/plain": "healthy" });
});

test("a service that becomes unhealthy without a change is restarted", async () => {
  const command = JSON.stringify(["/run/bureau/programs/runtime/bun", "-e", program]);
  expect((await update("--set", `command=${command}`, "--wait")).code).toBe(0);
  const before = await principal("service/direct");
  expect(outcomes((await update("--set", "default_payload.sick=true", "--wait")).update)).toEqual({
    "service/direct": "updated",
    "service/heir": "updated",
  });
  await eventually(async () => ((await said("service/direct")).includes("destroyed") ? true : undefined), {
    timeoutMs: 60_000,
  });
  await update("--unset", "default_payload.sick");
  const after = await until("it is healthy again", "service/direct", isHealthy);
  expect(after.pid).not.toBe(before?.pid);
});
