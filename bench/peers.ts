/**
 * Bureau beside other sandboxes: the time until the first instruction of the same program, and the memory of an
 * idle sandbox. A start of Bureau's is a whole agent: the PUT, the daemon's plan, proxy, terminal and sandbox.
 *
 * Rounds are interleaved. Peers are installed where apt may; the report names their versions, and stderr names each peer
 * that was not compared.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { descendantsOf } from "@bureau/os/process-table";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { AssignedAgents, appears } from "./assigned-agents.ts";
import { pssMb } from "./memory.ts";
import { type Peer, preparePeers, type RunningPeer } from "./peer-sandboxes.ts";
import { type Figure, figure, quantile } from "./statistics.ts";

const ROUNDS = 15;
const WARM_UP = 2;
/** Started together for the measurement of memory. */
const IDLE_SANDBOXES = 10;
/** Between the last start and the measurement. */
const IDLE_MS = 3_000;

type Result = { readonly times: number[]; memory: number };

export async function benchPeers(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "bpe-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const peers = await preparePeers(folder);
  const bureau = stack.use(createBureau());
  await bureau.json("up");
  await bureau.json("agent", "destroy", "greeter");
  const agents = await AssignedAgents.open(bureau);
  const pool = await agents.prepare("p", ROUNDS + WARM_UP + IDLE_SANDBOXES);
  const ours: Result = { times: [], memory: Number.NaN };
  const theirs = new Map(peers.map((peer): [Peer, Result] => [peer, { times: [], memory: Number.NaN }]));
  for (const [round, assignment] of pool.slice(IDLE_SANDBOXES).entries()) {
    const { create } = await agents.roundTrip(assignment);
    if (round >= WARM_UP) ours.times.push(create);
    for (const [peer, { times }] of theirs) {
      const time = await timePeer(peer, `bureau-bench-${round}`, folder);
      if (round >= WARM_UP) times.push(time);
    }
  }
  for (const [peer, result] of theirs) result.memory = await memoryOfPeer(peer, folder);
  const before = memoryOf(bureau);
  await agents.start(pool.slice(0, IDLE_SANDBOXES));
  await Bun.sleep(IDLE_MS);
  ours.memory = (memoryOf(bureau) - before) / IDLE_SANDBOXES;
  return figuresOf(ours, theirs);
}

/** Starts one and ends it. @returns the milliseconds until its first instruction */
async function timePeer(peer: Peer, id: string, folder: string): Promise<number> {
  const { seen, running, started } = startPeer(peer, id, folder);
  const elapsed = (await seen) - started;
  await running.stop();
  return elapsed;
}

function startPeer(
  peer: Peer,
  id: string,
  folder: string,
): { seen: Promise<number>; running: RunningPeer; started: number } {
  const shared = mkdtempSync(join(folder, "w-"));
  mkdirSync(shared, { recursive: true });
  const seen = appears(join(shared, "first"));
  const started = performance.now();
  const running = peer.start(id, shared, `touch ${peer.inside(shared)}/first; sleep 1000`);
  return { seen, running, started };
}

/** MB of one idle sandbox with its program, of {@link IDLE_SANDBOXES}. */
async function memoryOfPeer(peer: Peer, folder: string): Promise<number> {
  const all: RunningPeer[] = [];
  try {
    for (let index = 0; index < IDLE_SANDBOXES; index++) {
      const { seen, running } = startPeer(peer, `bureau-bench-idle-${index}`, folder);
      all.push(running);
      await seen;
    }
    await Bun.sleep(IDLE_MS);
    const pids = new Set(all.flatMap((running) => running.pids()));
    return [...pids].reduce((sum, pid) => sum + pssMb(pid), 0) / IDLE_SANDBOXES;
  } finally {
    for (const running of all) await running.stop();
  }
}

/** MB of all programs of an instance and of what they started. */
function memoryOf(bureau: TestBureau): number {
  const own = bureau.processes();
  const pids = new Set([...own, ...own.flatMap(({ pid }) => descendantsOf(pid))].map(({ pid }) => pid));
  return [...pids].reduce((sum, pid) => sum + pssMb(pid), 0);
}

/** Bureau's figures, each beside every peer's. */
function figuresOf(ours: Result, theirs: ReadonlyMap<Peer, Result>): Figure[] {
  const p50 = quantile(ours.times, 0.5);
  const p95 = quantile(ours.times, 0.95);
  const first = "machine_config PUT to first instruction";
  if (theirs.size === 0)
    return [
      figure(`${first}, p50`, p50, "ms"),
      figure(`${first}, p95`, p95, "ms"),
      figure("one idle sandbox, memory (PSS)", ours.memory, "MB"),
    ];
  return [...theirs].flatMap(([{ name }, { times, memory }]) => [
    figure(`${first}, p50`, p50, "ms", { name, value: quantile(times, 0.5) }),
    figure(`${first}, p95`, p95, "ms", { name, value: quantile(times, 0.95) }),
    figure("one idle sandbox, memory (PSS)", ours.memory, "MB", { name, value: memory }),
  ]);
}

if (import.meta.main) console.log(JSON.stringify(await benchPeers(), null, 2));
