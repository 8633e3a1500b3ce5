/**
 * The cost of a fleet at its homeserver, by its number of machines. One fleet grows from size to size at one embedded
 * homeserver, which is a process of its own and starts again before each size is measured; the machines are simulated
 * (`simulated-fleet.ts`). CPU time is the figure to trust: latencies include what else the host does.
 *
 * `BUREAU_BENCH_MACHINES` lists other sizes, `20,100,5000`. At the smallest size Synapse is measured beside it.
 */
import { fleetMachines } from "@bureau/control/machines/fleet-machines";
import { childrenOf } from "@bureau/os/process-table";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { startSynapse } from "@bureau/testkit/synapse";
import { notCompared } from "./debian-packages.ts";
import { HomeserverProcess, ProcessUsage } from "./homeserver-process.ts";
import {
  type Build,
  HEARTBEAT_MS,
  newFilter,
  newInitialFilter,
  prod,
  SimulatedFleet,
  type SimulatedMachine,
} from "./simulated-fleet.ts";
import { type Figure, figure, fitLine, quantile } from "./statistics.ts";

const SIZES = (process.env["BUREAU_BENCH_MACHINES"] ?? "20,100,300,1000").split(",").map(Number);
/** The runtime's own limit of requests at a time is 256, below the number of long polls. */
const MANY_REQUESTS = { BUN_CONFIG_MAX_HTTP_REQUESTS: "65000" };
const WINDOW_MS = 20_000;
const CONFIG_CHANGE_MS = 500;
const STORM_MS_MAX = 60_000;
const NEWCOMERS = 5;
const LISTS = 3;
/** Heartbeats in place of a day's, which at a thousand machines are three million. */
const ABSENCE_BEATS = 6_000;

/** Runs in a process of its own, with {@link MANY_REQUESTS}. */
export async function benchFleet(): Promise<Figure[]> {
  const child = Bun.spawn(runtimeCommand(import.meta.path), {
    env: { ...process.env, ...MANY_REQUESTS },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error("the simulated fleet failed");
  return JSON.parse(text) as Figure[];
}

async function measureAll(): Promise<Figure[]> {
  await using server = await HomeserverProcess.start();
  const fleet = await SimulatedFleet.open(server);
  const figures: Figure[] = [];
  const steady: { machines: number; cpu: number }[] = [];
  let quietPercent: number | undefined;
  for (const machines of SIZES) {
    console.error(`fleet: ${machines} machines …`);
    await fleet.growTo(machines);
    await server.restart();
    const known = await measureSteady(fleet, server.usage);
    quietPercent ??= (await measureSteady(fleet, server.usage, "none")).cpuPercent;
    steady.push({ machines, cpu: Math.max(0.01, known.cpuPercent - quietPercent) });
    const earlier = await measureSteady(fleet, server.usage, "an earlier build");
    figures.push(
      ...figuresOf(machines, known),
      figure("  homeserver CPU, all machines of an earlier build", earlier.cpuPercent, "% of a core"),
      ...(await measureList(fleet, server.usage)),
      ...(await measureNewcomer(fleet, server.usage)),
      ...(await measureAbsence(fleet, server)),
      ...(await measureStorm(fleet, server)),
    );
  }
  if (steady.length > 1)
    figures.push(figure("growth of the CPU for heartbeats: N to the power of", exponent(steady), ""));
  return [...figures, ...(await measureSynapse(SIZES[0] ?? 20))];
}

type Steady = {
  readonly cpuPercent: number;
  readonly pssMb: number;
  readonly receivedPerSecond: number;
  readonly beatMs: readonly number[];
  /** Undefined for a change that the machine did not see. */
  readonly configMs: readonly (number | undefined)[];
};

/** Heartbeats of all machines, spread over their interval, and a change of some machine's configuration every half second. */
async function measureSteady(
  fleet: SimulatedFleet,
  usage: ProcessUsage,
  heartbeats: Build | "none" = "this build",
): Promise<Steady> {
  await using _following = await fleet.follow();
  const { machines } = fleet;
  fleet.beatMs.splice(0);
  const [cpu, received, began] = [usage.cpuMs, fleet.received, performance.now()];
  const signal = AbortSignal.timeout(WINDOW_MS);
  const at = (index: number): SimulatedMachine => machines[index % machines.length] as SimulatedMachine;
  const beat = async (index: number): Promise<void> =>
    heartbeats === "none" ? undefined : at(index).beat(signal, heartbeats);
  const beats = paced(HEARTBEAT_MS / machines.length, signal, beat);
  // A prime step: neighbors in the order of joining are not neighbors in time.
  const changes = paced(CONFIG_CHANGE_MS, signal, (index) => fleet.changeConfig(at(index * 7919), signal));
  await beats;
  const configMs = await changes;
  const seconds = (performance.now() - began) / 1_000;
  return {
    cpuPercent: (usage.cpuMs - cpu) / seconds / 10,
    pssMb: usage.pssMb,
    receivedPerSecond: (fleet.received - received) / seconds,
    beatMs: [...fleet.beatMs],
    // The last change had no time left.
    configMs: configMs.slice(0, -1),
  };
}

function figuresOf(machines: number, known: Steady): Figure[] {
  const seen = known.configMs.filter((ms): ms is number => ms !== undefined);
  const lost = known.configMs.length - seen.length;
  return [
    figure(
      `${machines} machines: homeserver CPU`,
      known.cpuPercent,
      "% of a core",
      undefined,
      "≤ 10 % at 1000",
    ),
    figure("  homeserver memory (PSS)", known.pssMb, "MB"),
    figure("  sent to machines", known.receivedPerSecond / 1_000, "kB/s"),
    figure("  heartbeat, p50", quantile(known.beatMs, 0.5), "ms"),
    figure("  heartbeat, p99", quantile(known.beatMs, 0.99), "ms"),
    figure("  config change until its machine has it, p50", quantile(seen, 0.5), "ms"),
    figure("  the same, p99", quantile(seen, 0.99), "ms", undefined, "≤ 50 ms"),
    ...(lost === 0 ? [] : [figure("  config changes that no machine had in time", lost, "")]),
  ];
}

/** What `bureau machine list` and the dry run of an upgrade read; `test/fleet-requests` counts their requests. */
async function measureList(fleet: SimulatedFleet, usage: ProcessUsage): Promise<Figure[]> {
  const times: number[] = [];
  const cpu = usage.cpuMs;
  for (let round = 0; round < LISTS; round++) {
    const began = performance.now();
    await fleetMachines(fleet.admin, prod, Date.now());
    times.push(performance.now() - began);
  }
  return [
    figure("  list of all machines", Math.min(...times), "ms", undefined, "≤ 500 ms at 1000"),
    figure("  the same, homeserver CPU", (usage.cpuMs - cpu) / LISTS, "ms"),
  ];
}

/** A machine that starts while the others run. */
async function measureNewcomer(fleet: SimulatedFleet, usage: ProcessUsage): Promise<Figure[]> {
  const [{ session }] = fleet.machines as [SimulatedMachine];
  const [cpu, received] = [usage.cpuMs, fleet.received];
  for (let round = 0; round < NEWCOMERS; round++)
    await session.sync({ timeoutMs: 0, filter: newInitialFilter() });
  return [
    figure("  first sync of one machine", (fleet.received - received) / NEWCOMERS / 1_000, "kB"),
    figure("  the same, homeserver CPU", (usage.cpuMs - cpu) / NEWCOMERS, "ms"),
  ];
}

/** A machine returns with an old position after many heartbeats of the others, written where each wakes it. */
async function measureAbsence(fleet: SimulatedFleet, server: HomeserverProcess): Promise<Figure[]> {
  const { usage } = server;
  const [{ session }] = fleet.machines as [SimulatedMachine];
  const filter = newFilter();
  const { nextBatch: since } = await session.sync({ timeoutMs: 0, filter });
  const stored = server.storedBytes;
  await fleet.beatFast(ABSENCE_BEATS, "an earlier build");
  const perBeat = (server.storedBytes - stored) / ABSENCE_BEATS;
  const [cpu, began] = [usage.cpuMs, performance.now()];
  await session.sync({ timeoutMs: 0, filter, since });
  return [
    figure(
      `  sync after ${ABSENCE_BEATS} heartbeats of others`,
      performance.now() - began,
      "ms",
      undefined,
      "≤ 20 ms",
    ),
    figure("  the same, homeserver CPU", usage.cpuMs - cpu, "ms"),
    figure("  database, for each heartbeat until it is deleted, an hour later", perBeat, "bytes"),
  ];
}

/** All machines start at the same moment, as after a power cut. The homeserver begins again afterwards. */
async function measureStorm(fleet: SimulatedFleet, server: HomeserverProcess): Promise<Figure[]> {
  server.usage.forgetPeak();
  const began = performance.now();
  const stop = AbortSignal.timeout(STORM_MS_MAX);
  let inSync = 0;
  const loops = fleet.machines.map((machine) => machine.follow(stop));
  await Promise.all(loops.map((loop) => loop.inSync.then(() => void (stop.aborted || inSync++))));
  const seconds = (performance.now() - began) / 1_000;
  const peak = server.usage.peakMb;
  const all = fleet.machines.length;
  await server.restart();
  return [
    inSync === all
      ? figure("  all start at once, until the last is in sync", seconds, "s", undefined, "≤ 15 s at 1000")
      : figure(`  all start at once, in sync after ${STORM_MS_MAX / 1_000} s`, inSync, `of ${all}`),
    figure("  the same, largest memory", peak, "MB", undefined, "≤ 300 MB at 1000"),
  ];
}

/** The same steady state at Synapse with its SQLite, without its limits. */
async function measureSynapse(machines: number): Promise<Figure[]> {
  try {
    console.error(`fleet: Synapse with ${machines} machines …`);
    const before = new Set(childrenOf(process.pid));
    await using synapse = await startSynapse();
    const pid = childrenOf(process.pid).find((child) => !before.has(child)) ?? 0;
    const fleet = await SimulatedFleet.open(synapse);
    await fleet.growTo(machines);
    const known = await measureSteady(fleet, new ProcessUsage(pid));
    return figuresOf(machines, known).map((one) => ({ ...one, name: `Synapse, ${one.name.trim()}` }));
  } catch (error) {
    notCompared("Synapse", String(error));
    return [];
  }
}

/** Calls `act` every `everyMs` until `signal` aborts, without waiting for earlier calls. Returns all results. */
async function paced<T>(
  everyMs: number,
  signal: AbortSignal,
  act: (index: number) => Promise<T>,
): Promise<T[]> {
  const began = performance.now();
  const calls: Promise<T>[] = [];
  while (!signal.aborted) {
    calls.push(act(calls.length));
    await Bun.sleep(Math.max(0, began + calls.length * everyMs - performance.now()));
  }
  return await Promise.all(calls);
}

/** The slope of the line through the logarithms. */
const exponent = (steady: readonly { readonly machines: number; readonly cpu: number }[]): number =>
  fitLine(steady.map(({ machines, cpu }) => ({ x: Math.log(machines), y: Math.log(cpu) }))).slope;

if (import.meta.main) console.log(JSON.stringify(await measureAll(), null, 2));
