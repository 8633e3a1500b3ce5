/**
 * A rollout over a fleet: machines with systemd in one lab, at the real times, by the command an operator types. The
 * floor is the minimum by design: the soak of one machine, once for the canary and once per batch.
 *
 * `BUREAU_BENCH_MACHINES` is how many (50), needs root and some 150 MB of memory a machine.
 */
import { readFileSync, writeFileSync } from "node:fs";
import type { Rollout } from "@bureau/schema/rollout";
import { upgradeTimes } from "../packages/daemon/src/upgrade/upgrade-times.ts";
import { bureau, FLEET, LabFleet } from "../test/lab/fleet.ts";
import { openLab } from "../test/lab/lab.ts";
import { TestBuilds } from "../test/upgrade/test-builds.ts";
import { type Figure, figure, median } from "./statistics.ts";

const MACHINES = Number(process.env["BUREAU_BENCH_MACHINES"] ?? 50);
const BATCH = 10;
/** More concurrent boots only make each of them slower. */
const AT_ONCE = 5;
const SOAK_SECONDS = upgradeTimes("{}").soak / 1_000;
const ROLLOUT_MS_MAX = 30 * 60_000;
const PATH = "/nix/store/00000000000000000000000000000000-bureau-host-env";

export async function benchUpgradeFleet(): Promise<Figure[]> {
  if (process.getuid?.() !== 0) {
    console.error("upgrade-fleet: SKIPPED, because booting machines needs root");
    return [];
  }
  using _instances = allowInotify(MACHINES * INSTANCES_A_MACHINE);
  using versions = new TestBuilds();
  const binds = { [versions.make()]: PATH };
  await using lab = await openLab({ say: (line) => console.error(line) });
  const fleet = await LabFleet.open(lab, "embedded", { binds });
  const names = Array.from({ length: MACHINES }, (_, index) => `m${index + 1}`);
  await inTurns(names, async (name) => void (await fleet.join(await lab.boot(name, { binds }))));
  const command = `machine upgrade --all --host-env ${PATH} --canary 1 --batch ${BATCH} --fleet ${FLEET} --json`;
  const began = performance.now();
  const { code, stdout, stderr } = await fleet.op.run(`${bureau} ${command}`, { timeoutMs: ROLLOUT_MS_MAX });
  const seconds = (performance.now() - began) / 1_000;
  if (code !== 0) throw new Error(`${command} exited with ${code}:\n${stdout}\n${stderr}`);
  const { machines } = JSON.parse(stdout) as Rollout;
  const each = machines.map(
    ({ asked_at, finished_at }) => (Date.parse(finished_at ?? "") - Date.parse(asked_at ?? "")) / 1_000,
  );
  const rounds = 1 + Math.ceil((MACHINES - 1) / BATCH);
  return [
    figure(`rollout over ${MACHINES} machines, canary 1, batch ${BATCH}`, seconds, "s", {
      name: `the soak of each of ${rounds} rounds`,
      value: SOAK_SECONDS * rounds,
    }),
    figure("  each machine, median", median(each), "s", { name: "its soak", value: SOAK_SECONDS }),
    figure("  each machine, longest", Math.max(...each), "s"),
  ];
}

/** A systemd and its services need some twenty; kernels allow 128 to all of root's machines together. */
const INSTANCES_A_MACHINE = 40;
const INOTIFY = "/proc/sys/fs/inotify/max_user_instances";

/** Raises the limit; restores it when disposed. */
function allowInotify(least: number): Disposable {
  const before = readFileSync(INOTIFY, "utf8");
  if (Number(before) < least) writeFileSync(INOTIFY, String(least));
  return { [Symbol.dispose]: () => writeFileSync(INOTIFY, before) };
}

async function inTurns(names: readonly string[], act: (name: string) => Promise<void>): Promise<void> {
  const left = [...names];
  const work = async (): Promise<void> => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) await act(name);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

if (import.meta.main) console.log(JSON.stringify(await benchUpgradeFleet(), null, 2));
