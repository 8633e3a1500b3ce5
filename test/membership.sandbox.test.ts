/** A rootless machine leaves its fleet, is revoked, and rejoins, through the commands that a person types. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { findInhabitants } from "@bureau/os/mounts";
import { isAlive } from "@bureau/os/process-table";
import { eventTypes } from "@bureau/schema/events";
import { parseRoomAlias } from "@bureau/schema/refs";
import { bureauCommand, createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";

setDefaultTimeout(120_000);

type Status = { machine: { state: string; name: string }; daemon: { state: string } };
type Removed = {
  ok: boolean;
  drain?: string;
  stopped?: number;
  account: string;
  agents: { account: string }[];
};

const status = async (bureau: TestBureau): Promise<Status> =>
  JSON.parse((await bureau.run("status", "--json")).stdout) as Status;

/** The daemon has ended and is not restarted, and no sandbox has a process. */
const isOver = (bureau: TestBureau): Promise<true> =>
  eventually(
    async () => {
      const { daemon } = await status(bureau);
      const empty = findInhabitants(bureau.layout.runDir).filter(isAlive).length === 0;
      return daemon.state === "revoked" && empty ? true : undefined;
    },
    { describe: async () => (await bureau.run("status")).stdout },
  );

/** Provisions the file that its launcher reads; the machine joins when Bureau starts again. */
async function comeBack(bureau: TestBureau, machine: string): Promise<void> {
  const bootstrap = `${bureau.layout.stateDir}/bootstrap.json`;
  const made = await bureau.json<{ account: string }>("machine", "provision", machine, "--output", bootstrap);
  expect(made.account).toBe("reissued");
  await bureau.json("down");
  await bureau.json("up");
  expect((await status(bureau)).machine.state).toBe("online");
  await bureau.json("agent", "create", "again", "--command", "echo again; sleep 1000");
  await eventually(async () =>
    (await bureau.run("agent", "logs", "again")).stdout.includes("again") ? true : undefined,
  );
}

describe("a rootless machine", () => {
  test("is decommissioned with grace: its agents end by themselves; then it is provisioned again and rejoins", async () => {
    await using bureau = createBureau();
    await bureau.json("up");
    const machine = (await status(bureau)).machine.name;
    await bureau.json(
      "agent",
      "create",
      "demo",
      "--command",
      "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.1; done",
    );
    const gone = await bureau.run("machine", "decommission", machine, "--grace", "20s");
    expect(gone.code).toBe(0);
    expect(gone.stderr).toContain("stopped 2 sandboxes and left");
    expect(gone.stdout).toContain(`${machine} has left the fleet`);
    await isOver(bureau);
    const up = await bureau.run("up");
    expect(up.code).toBe(1);
    expect(up.stderr).toContain(`bureau machine provision ${machine} --output`);
    await comeBack(bureau, machine);
  });

  test("that is revoked has no sandboxes after one sync, and can rejoin with a new key", async () => {
    await using bureau = createBureau();
    await bureau.json("up");
    const machine = (await status(bureau)).machine.name;
    await bureau.json(
      "agent",
      "create",
      "deaf",
      "--command",
      "trap '' TERM; trap : HUP; while :; do sleep 0.1; done",
    );
    const inhabitants = findInhabitants(bureau.layout.runDir);
    expect(inhabitants.length).toBeGreaterThan(1);
    const began = performance.now();
    const revoking = bureau.json<Removed>("machine", "revoke", machine, "--reason", "a test");
    await eventually(async () => (inhabitants.some(isAlive) ? undefined : true));
    console.log(
      `every sandbox was gone ${Math.round(performance.now() - began)} ms after the command was typed`,
    );
    expect(await revoking).toMatchObject({ ok: true, account: "deactivated" });
    await isOver(bureau);
    await comeBack(bureau, machine);
  });

  test("that is down is decommissioned offline, and finds out when it starts", async () => {
    await using bureau = createBureau();
    await bureau.json("up");
    const machine = (await status(bureau)).machine.name;
    const { daemon } = await bureau.json<{ daemon: { pid: number } }>("status");
    process.kill(daemon.pid, "SIGSTOP");
    const gone = await bureau.json<Removed>(
      "machine",
      "decommission",
      machine,
      "--offline",
      "--purge-agents",
    );
    expect(gone).toMatchObject({ ok: true, drain: "not-asked", account: "locked" });
    expect(gone.agents).toMatchObject([{ account: "closed" }]);
    process.kill(daemon.pid, "SIGCONT");
    await isOver(bureau);
  });

  test("whose decommissioning was interrupted still stops, and the next run finishes it", async () => {
    await using bureau = createBureau();
    await bureau.json("up");
    const machine = (await status(bureau)).machine.name;
    const cut = Bun.spawn([bureauCommand, "machine", "decommission", machine], {
      env: { ...process.env, BUREAU_HOME: bureau.home },
      stdout: "ignore",
      stderr: "ignore",
    });
    const session = bureau.session();
    const room = await session.resolveAlias(parseRoomAlias(`#${machine}:bureau.local`));
    if (room === undefined) throw new Error("no config room");
    await eventually(async () =>
      session.getState(room, eventTypes.machineDecommission, `${machine}:bureau.local`),
    );
    cut.kill("SIGKILL");
    await cut.exited;
    await isOver(bureau);
    expect(await bureau.json<Removed>("machine", "decommission", machine)).toMatchObject({
      ok: true,
      account: "locked",
    });
    const after = await session.getState(room, eventTypes.machineDecommission, `${machine}:bureau.local`);
    expect(after).toEqual({});
  });
});
