/**
 * The longest wait of a client while daemon and launcher replace themselves. The floor is measured in the same run: a
 * program of a few lines that only passes its socket to itself by exec, with the same client.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { callCbor } from "@bureau/os/cbor-client";
import { launcherSocket, observeSocket } from "@bureau/os/layout";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { launcherResponses } from "@bureau/schema/launcher-ipc";
import type { TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";
import { TestBuilds } from "../test/upgrade/test-builds.ts";
import { UpgradableBureau } from "../test/upgrade/upgradable-bureau.ts";
import { type Figure, figure, median } from "./statistics.ts";

const EXECS = 12;
/** About 3 was measured; the rest is for a crowded host. */
const FLOOR_RATIO_MAX = 8;
/** Just long enough to see that the new build works: the wait is over by then. */
const QUICK_TIMES = { proof: 6_000, soak: 300, launcherProof: 6_000, launcherSoak: 300, margin: 1_000 };
/** Between two questions of one client. */
const PAUSE_MS = 2;
const GAP_MS_AIM = "≤ 55 ms";

/** One that asks again as soon as it is answered. */
class Client implements AsyncDisposable {
  #longestMs = 0;
  #going = true;
  readonly #done: Promise<void>;
  readonly failures: string[] = [];
  count = 0;

  constructor(ask: () => Promise<unknown>) {
    this.#done = this.#work(ask);
  }

  async #work(ask: () => Promise<unknown>): Promise<void> {
    while (this.#going) {
      const began = performance.now();
      await ask().catch((error: unknown) => this.failures.push(String(error)));
      this.count++;
      this.#longestMs = Math.max(this.#longestMs, performance.now() - began);
      await Bun.sleep(PAUSE_MS);
    }
  }

  /** The longest wait since the last call. */
  takeLongest(): number {
    const longest = this.#longestMs;
    this.#longestMs = 0;
    return longest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#going = false;
    await this.#done;
  }
}

/** Sends `text` on a new connection; all that is answered. */
async function say(path: string, text: string): Promise<string> {
  const socket = connect({ path });
  const chunks: Buffer[] = [];
  socket.write(text);
  for await (const chunk of socket) chunks.push(chunk);
  if (chunks.length === 0) throw new Error("no answer");
  return Buffer.concat(chunks).toString();
}

export async function benchUpgradeGap(execs = EXECS): Promise<Figure[]> {
  const floor = await floorGaps(execs);
  using versions = new TestBuilds();
  const pair = [versions.make(), versions.make()];
  await using upgrades = await UpgradableBureau.open(QUICK_TIMES);
  const gaps = { daemon: [] as number[], launcher: [] as number[] };
  const { observe, launcher } = clientsOf(upgrades.bureau);
  for (let round = 0; round < execs; round++) {
    observe.takeLongest();
    launcher.takeLongest();
    const { state, reason } = await upgrades.ask(pair[round % 2] ?? "");
    if (state !== "running") throw new Error(`an upgrade did not succeed: ${reason}`);
    gaps.daemon.push(observe.takeLongest());
    gaps.launcher.push(launcher.takeLongest());
  }
  await Promise.all([observe[Symbol.asyncDispose](), launcher[Symbol.asyncDispose]()]);
  const failures = [...observe.failures, ...launcher.failures];
  for (const failure of failures) console.error(failure);
  const beside = (of: (samples: readonly number[]) => number) => ({
    name: "a minimal program's exec",
    value: of(floor.gaps),
  });
  const longest = (samples: readonly number[]): number => Math.max(...samples);
  return [
    ...(["daemon", "launcher"] as const).flatMap((name) => [
      figure(
        `${name} exec, longest wait of a client, median of ${execs}`,
        median(gaps[name]),
        "ms",
        beside(median),
        undefined,
        FLOOR_RATIO_MAX,
      ),
      figure(
        `${name} exec, longest wait of a client, worst of ${execs}`,
        longest(gaps[name]),
        "ms",
        beside(longest),
        GAP_MS_AIM,
      ),
    ]),
    figure("  bun -e 0, beside it", floor.bareMs, "ms"),
    figure(
      `  failures among ${observe.count + launcher.count} questions`,
      failures.length,
      "failures",
      undefined,
      "0",
    ),
  ];
}

function clientsOf(bureau: TestBureau): { readonly observe: Client; readonly launcher: Client } {
  return {
    observe: new Client(() => say(observeSocket(bureau.layout), '{"action":"status"}\n')),
    launcher: new Client(() =>
      callCbor(launcherSocket(bureau.layout), { action: "status" }, launcherResponses.status, {
        peer: "launcher",
      }),
    ),
  };
}

/** The same client with a program that only calls exec. */
async function floorGaps(execs: number): Promise<{ readonly gaps: number[]; readonly bareMs: number }> {
  const folder = mkdtempSync(join(tmpdir(), "bu-"));
  const runtime = join(import.meta.dir, "../dist/current/runtime/bun");
  await Bun.build({
    entrypoints: [join(import.meta.dir, "exec-floor-program.ts")],
    outdir: folder,
    target: "bun",
  });
  const path = join(folder, "socket");
  const child = Bun.spawn([runtime, ...runtimeArguments, join(folder, "exec-floor-program.js"), path]);
  try {
    await eventually(async () => await say(path, "ping").catch(() => undefined));
    const client = new Client(() => say(path, "ping"));
    const [gaps, bare]: [number[], number[]] = [[], []];
    for (let round = 0; round < execs; round++) {
      await Bun.sleep(200);
      client.takeLongest();
      await say(path, "exec");
      await Bun.sleep(300);
      gaps.push(client.takeLongest());
      const began = performance.now();
      Bun.spawnSync([runtime, ...runtimeArguments, "-e", "0"]);
      bare.push(performance.now() - began);
    }
    await client[Symbol.asyncDispose]();
    if (client.failures.length > 0) throw new Error(`the floor failed: ${client.failures[0]}`);
    return { gaps, bareMs: median(bare) };
  } finally {
    child.kill();
    await child.exited;
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) console.log(JSON.stringify(await benchUpgradeGap(), null, 2));
