/**
 * Kills programs with SIGKILL at random moments while agents are created and destroyed, for several rounds. Then the
 * desired agents run, exactly once each, and nothing else is left. `BUREAU_SEED` repeats a run, `BUREAU_ROUNDS` sets its length.
 */
import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { SPARE_PROXIES } from "@bureau/launcher/spare-proxies";
import { readIfPresent } from "@bureau/os/durable-file";
import { findInhabitants } from "@bureau/os/mounts";
import {
  argumentsOf,
  findByArguments,
  identify,
  type ProcessId,
  signalProcess,
} from "@bureau/os/process-table";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

type Principal = { name: string; state: string; pid?: number; proxy_pid?: number };
type Status = Record<"daemon" | "launcher" | "homeserver" | "supervisor", { pid: number | null }> & {
  machine: { state: string };
  principals: Principal[];
};

const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const rounds = Number(process.env["BUREAU_ROUNDS"] ?? 12);
const victims = ["daemon", "launcher", "homeserver", "proxy", "program", "tmux"] as const;
/** Backoff may reach seconds after several crashes in a row. */
const CONVERGE_MS = 60_000;

/** mulberry32: small, and the same everywhere. */
function randomFrom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const running = useBureau();

const statusNow = async (): Promise<Status | undefined> => {
  const { stdout } = await running().run("status", "--json");
  return stdout === "" ? undefined : (JSON.parse(stdout) as Status);
};

/** The sleep time identifies an agent's program, even beside a concurrent test run. */
const nap = (index: number): string => String(10_000_000 + process.pid * 1_000 + index);
const programsOf = (index: number): ProcessId[] => findByArguments("sleep", nap(index));

/** Resolves when exactly the wanted agents run, once each, each with its own proxy, and nothing else is left. */
async function converged(wanted: ReadonlySet<number>): Promise<void> {
  let why = "";
  await eventually(
    async () => {
      why = disagreement(await statusNow(), wanted) ?? "";
      return why === "" ? true : undefined;
    },
    {
      timeoutMs: CONVERGE_MS,
      describe: () => `seed ${seed}: it did not converge: ${why}\n${whatRuns()}${running().logs(60)}`,
    },
  );
}

/** All processes with their parents, for a failure's message. */
const whatRuns = (): string =>
  Bun.spawnSync(["ps", "-eo", "pid,ppid,lstart,stat,args", "--forest", "-ww"])
    .stdout.toString()
    .split("\n")
    .map((line) => line.slice(0, 220))
    .join("\n");

function disagreement(status: Status | undefined, wanted: ReadonlySet<number>): string | undefined {
  if (status?.machine.state !== "online") return `the machine is ${status?.machine.state}`;
  const agents = status.principals.filter(({ name }) => name.startsWith("agent/f"));
  for (const index of wanted) {
    const agent = agents.find(({ name }) => name === `agent/f${index}`);
    if (agent?.state !== "running") return `agent/f${index} is ${JSON.stringify(agent)}`;
    const programs = programsOf(index).length;
    if (programs !== 1) return `${programs} programs of agent/f${index}`;
    if (agent.proxy_pid === undefined || identify(agent.proxy_pid) === undefined)
      return `agent/f${index} has no proxy`;
  }
  if (agents.length !== wanted.size) return `principals ${agents.map(({ name }) => name).join(" ")}`;
  const idle = status.principals.find(({ state }) => state !== "running");
  if (idle !== undefined) return `${idle.name} is ${idle.state}`;
  const active = status.principals.length;
  // Each sandbox has a proxy, and the launcher keeps spare ones.
  const proxies = running()
    .processes()
    .filter(({ pid }) => isProxy(pid)).length;
  if (proxies < active || proxies > active + SPARE_PROXIES)
    return `${proxies} proxies for ${active} sandboxes`;
  // The pid 1 of a sandbox is bubblewrap. An orphaned sandbox counts too.
  const inside = inhabitants().length;
  if (inside !== active) return `${inside} sandboxes for ${active} principals`;
  const folders = readdirSync(join(running().layout.runDir, "fleet/local/sandbox"));
  return folders.length === active ? undefined : `${folders.length} folders for ${active} sandboxes`;
}

/** First processes of sandboxes: bubblewrap processes with a mount namespace of their own, or about to get one. */
const inhabitants = (): ProcessId[] =>
  findInhabitants(running().layout.runDir).filter(
    ({ pid }) => argumentsOf(pid)[0]?.endsWith("bwrap") && !isOuter(pid),
  );
/** The bubblewrap that waits outside is the child of a pane's shell. */
const isOuter = (pid: number): boolean => {
  const parent = /^PPid:\s*(\d+)$/m.exec(readIfPresent(`/proc/${pid}/status`) ?? "")?.[1];
  return parent === undefined || argumentsOf(Number(parent))[0] === "/bin/sh";
};
const isProxy = (pid: number): boolean =>
  argumentsOf(pid).some((argument) => argument.includes("bureau-proxy"));

async function kill(victim: (typeof victims)[number], random: () => number): Promise<void> {
  const status = await statusNow();
  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  const principal = pick(status?.principals.filter(({ state }) => state === "running") ?? []);
  const pid =
    victim === "proxy"
      ? principal?.proxy_pid
      : victim === "program"
        ? principal?.pid
        : victim === "tmux"
          ? findByArguments("-S", join(running().layout.runDir, "tmux.sock"))[0]?.pid
          : (status?.[victim].pid ?? undefined);
  const target = pid === undefined ? undefined : identify(pid);
  if (target !== undefined) signalProcess(target, "SIGKILL");
}

describe("killing programs at random", () => {
  test(`${rounds} rounds: everything desired runs again, once, and nothing else is left`, async () => {
    console.log(`faults: BUREAU_SEED=${seed} BUREAU_ROUNDS=${rounds}`);
    const random = randomFrom(seed);
    const wanted = new Set<number>();
    for (let index = 0; index < 3; index++) {
      await running().json("agent", "create", `f${index}`, "--command", `exec sleep ${nap(index)}`);
      wanted.add(index);
    }
    await converged(wanted);
    for (let round = 0; round < rounds; round++) {
      const change = random() < 0.5 ? changeAgents(round, wanted, random) : Promise.resolve();
      await Bun.sleep(random() * 120);
      const count = 1 + Math.floor(random() * 2);
      for (let shot = 0; shot < count; shot++) {
        await kill(victims[Math.floor(random() * victims.length)] ?? "daemon", random);
        await Bun.sleep(random() * 80);
      }
      await change;
    }
    await converged(wanted);
  }, 300_000);

  test("a killed supervisor ends no other process, and the next one adopts all of them", async () => {
    const before = await statusNow();
    const supervisor = identify(before?.supervisor.pid ?? 0);
    if (supervisor === undefined || before === undefined) throw new Error("no supervisor");
    signalProcess(supervisor, "SIGKILL");
    await running().json("up");
    const after = await statusNow();
    for (const program of ["daemon", "launcher", "homeserver"] as const)
      expect(after?.[program].pid).toBe(before[program].pid);
    expect(after?.principals.map(({ pid }) => pid)).toEqual(before.principals.map(({ pid }) => pid));
  }, 60_000);

  test("with everything killed at once, down leaves nothing behind", async () => {
    const all = running().processes();
    for (const target of all) signalProcess(target, "SIGKILL");
    await running().json("down");
    expect(running().processes()).toEqual([]);
    expect(inhabitants()).toEqual([]);
    expect(readdirSync(running().layout.runDir)).toEqual([]);
    const up = await running().json<Status>("up");
    expect(up.machine.state).toBe("online");
  }, 90_000);
});

/** Adds or removes an agent, and retries because the homeserver may be down. */
async function changeAgents(round: number, wanted: Set<number>, random: () => number): Promise<void> {
  const removable = [...wanted].filter((index) => index >= 3);
  const victim = removable[Math.floor(random() * removable.length)];
  const create = victim === undefined || random() < 0.6;
  const index = create ? 3 + round : victim;
  const args = create
    ? ["agent", "create", `f${index}`, "--command", `exec sleep ${nap(index)}`, "--no-wait"]
    : ["agent", "destroy", `f${index}`, "--no-wait"];
  await eventually(
    async () => {
      const { code, stderr } = await running().run(...args);
      return code === 0 || (!create && stderr.includes("is not assigned")) ? true : undefined;
    },
    { timeoutMs: CONVERGE_MS, describe: () => `seed ${seed}: ${args.join(" ")} never succeeded` },
  );
  if (create) wanted.add(index);
  else wanted.delete(index);
}
