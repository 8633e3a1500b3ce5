/**
 * How one machine's costs grow with its sandboxes. One instance grows through {@link STEPS}; at each step one more
 * sandbox is created and destroyed again and again, and the idle programs are measured. At the last step the launcher
 * is killed and adopts all, and the instance goes down and up. Each figure stands beside the same one with 1 sandbox.
 */
import { callCbor } from "@bureau/os/cbor-client";
import { launcherSocket } from "@bureau/os/layout";
import { launcherResponses } from "@bureau/schema/launcher-ipc";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";
import { AssignedAgents, type Assignment, type RoundTripCost } from "./assigned-agents.ts";
import { cpuShare, pssMb } from "./memory.ts";
import { type Figure, figure, fitLine, median, quantile } from "./statistics.ts";

const STEPS = [1, 10, 50, 100, 200] as const;
/** Round trips at each step; the first {@link WARM_UP} do not count. */
const ROUNDS = 15;
const WARM_UP = 3;
/** Daemon and launcher collect garbage once, 15 s after the last change. */
const QUIET_MS = 20_000;
const IDLE_MS = 20_000;
/** 200 sandboxes end and start within seconds; a crowded machine needs more. */
const ALL_RUN_MS_MAX = 120_000;

type Status = Record<"launcher" | "daemon" | "homeserver", { readonly pid: number }> & {
  readonly principals: readonly { readonly state: string }[];
};

/** What is measured at one step. */
type Step = {
  readonly sandboxes: number;
  readonly createMs: number;
  readonly createP95Ms: number;
  readonly destroyMs: number;
  readonly daemonCpuMs: number;
  readonly launcherCpuMs: number;
  readonly statusMs: number;
  readonly memoryMb: number;
  readonly idlePercent: number;
  readonly adoptionMs: number;
};

export async function benchScale(): Promise<Figure[]> {
  await using bureau = createBureau();
  await bureau.json("up");
  await bureau.json("agent", "destroy", "greeter");
  const agents = await AssignedAgents.open(bureau);
  const pool = await agents.prepare("p", ROUNDS);
  const steps: Step[] = [];
  let running = 0;
  for (const sandboxes of STEPS) {
    console.error(`scale: ${sandboxes} sandboxes …`);
    await agents.start(await agents.prepare(`n${sandboxes}-`, sandboxes - running));
    running = sandboxes;
    steps.push(await measureStep(bureau, agents, pool, sandboxes));
  }
  return [
    ...steps.flatMap((step) => stepFigures(step, steps[0] ?? step)),
    ...growthFigures(steps),
    ...(await downAndUp(bureau, running)),
  ];
}

async function measureStep(
  bureau: TestBureau,
  agents: AssignedAgents,
  pool: readonly Assignment[],
  sandboxes: number,
): Promise<Step> {
  const { daemon, launcher } = await allRunning(bureau, sandboxes);
  const rounds: (RoundTripCost & { readonly status: number })[] = [];
  for (const assignment of pool) {
    const cost = await agents.cost(assignment, { daemon, launcher });
    const asked = performance.now();
    await bureau.json("status");
    rounds.push({ ...cost, status: performance.now() - asked });
  }
  const of = (kind: keyof (typeof rounds)[number]): number[] =>
    rounds.slice(WARM_UP).map((round) => round[kind]);
  await Bun.sleep(QUIET_MS);
  const idle = await cpuShare([daemon.pid, launcher.pid], () => Bun.sleep(IDLE_MS));
  return {
    sandboxes,
    createMs: median(of("create")),
    createP95Ms: quantile(of("create"), 0.95),
    destroyMs: median(of("destroy")),
    daemonCpuMs: median(of("daemon")),
    launcherCpuMs: median(of("launcher")),
    statusMs: median(of("status")),
    memoryMb: pssMb(daemon.pid) + pssMb(launcher.pid),
    idlePercent: idle * 100,
    adoptionMs: await timeAdoption(bureau, launcher.pid, sandboxes),
  };
}

async function allRunning(bureau: TestBureau, sandboxes: number): Promise<Status> {
  return await eventually(
    async () => {
      const { code, stdout } = await bureau.run("status", "--json");
      const status = code === 0 ? (JSON.parse(stdout) as Status) : undefined;
      const running = status?.principals.filter(({ state }) => state === "running").length;
      return running === sandboxes ? status : undefined;
    },
    { timeoutMs: ALL_RUN_MS_MAX, describe: () => bureau.logs(8) },
  );
}

/** From SIGKILL of the launcher until the next one answers with its list of all sandboxes. */
async function timeAdoption(bureau: TestBureau, pid: number, sandboxes: number): Promise<number> {
  const socket = launcherSocket(bureau.layout);
  const began = performance.now();
  process.kill(pid, "SIGKILL");
  await eventually(async () => {
    const request = { action: "list-sandboxes" } as const;
    const list = await callCbor(socket, request, launcherResponses["list-sandboxes"], {
      peer: "launcher",
    }).catch(() => undefined);
    return list?.sandboxes.length === sandboxes ? list : undefined;
  });
  return performance.now() - began;
}

async function downAndUp(bureau: TestBureau, sandboxes: number): Promise<Figure[]> {
  const began = performance.now();
  await bureau.json("down");
  const down = performance.now() - began;
  await bureau.json("up");
  const up = performance.now();
  await allRunning(bureau, sandboxes);
  const upMs = performance.now() - began - down;
  console.error(`scale: "bureau up" itself took ${Math.round(up - began - down)} ms`);
  return [
    figure(`down with ${sandboxes} sandboxes`, down, "ms", undefined, "≤ 1,000 ms"),
    figure(`up until all ${sandboxes} run, for each`, upMs / sandboxes, "ms", undefined, "≤ 20 ms"),
  ];
}

function stepFigures(step: Step, first: Step): Figure[] {
  const at = (name: string) => `${name} with ${step.sandboxes} others`;
  const one = (value: number) => ({ name: `with ${first.sandboxes}`, value });
  const flat = step.sandboxes === STEPS.at(-1) ? "≤ 1.3×" : undefined;
  return [
    figure(at("PUT to first instruction, p50,"), step.createMs, "ms", one(first.createMs), flat),
    figure(
      at("PUT to first instruction, p95,"),
      step.createP95Ms,
      "ms",
      { name: "p50", value: step.createMs },
      "≤ 2×",
    ),
    figure(
      at("daemon CPU, one create and destroy,"),
      step.daemonCpuMs,
      "ms",
      one(first.daemonCpuMs),
      "≤ 25 ms",
    ),
    figure(at("launcher CPU, one create and destroy,"), step.launcherCpuMs, "ms", one(first.launcherCpuMs)),
    figure(at("PUT to destroyed and cleared"), step.destroyMs, "ms", one(first.destroyMs)),
    figure(at("bureau status"), step.statusMs, "ms", one(first.statusMs)),
    figure(at("daemon and launcher, memory (PSS),"), step.memoryMb, "MB", one(first.memoryMb)),
    figure(
      at("daemon and launcher, idle CPU,"),
      step.idlePercent,
      "% of a core",
      one(first.idlePercent),
      "≤ 0.5 %",
    ),
    figure(at("launcher killed until it lists"), step.adoptionMs, "ms", one(first.adoptionMs)),
  ];
}

/** The law of each cost that may grow, fitted over all steps. */
function growthFigures(steps: readonly Step[]): Figure[] {
  const law = (name: string, unit: string, of: (step: Step) => number): Figure => {
    const { base, slope } = fitLine(steps.map((step) => ({ x: step.sandboxes, y: of(step) })));
    return figure(
      `law: ${name} is ${base.toPrecision(3)} ${unit} plus, for each other sandbox,`,
      slope,
      unit,
    );
  };
  return [
    law("PUT to first instruction", "ms", (step) => step.createMs),
    law("daemon CPU of one create and destroy", "ms", (step) => step.daemonCpuMs),
    law("destroy", "ms", (step) => step.destroyMs),
    law("memory of daemon and launcher", "MB", (step) => step.memoryMb),
    law("idle CPU", "% of a core", (step) => step.idlePercent),
    law("adoption", "ms", (step) => step.adoptionMs),
  ];
}

if (import.meta.main) console.log(JSON.stringify(await benchScale(), null, 2));
