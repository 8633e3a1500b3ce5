/**
 * The cost of an upgrade: the wait of clients, its time, the time until each kind of bad build is rolled back,
 * and the bytes moved when one line of the proxy changes. With the real times, each build in its own instance, all
 * concurrent, because nearly all of it is waiting. A fleet of 50 is `upgrade-fleet`.
 */
import { BureauError } from "@bureau/kit/errors";
import type { MachineVersion } from "@bureau/schema/events";
import { upgradeTimes } from "../packages/daemon/src/upgrade/upgrade-times.ts";
import { prepend, TestBuilds } from "../test/upgrade/test-builds.ts";
import { UpgradableBureau } from "../test/upgrade/upgradable-bureau.ts";
import { benchHostEnv } from "./host-env.ts";
import { type Figure, figure } from "./statistics.ts";
import { benchUpgradeGap } from "./upgrade-gap.ts";

/** The longest one hangs until it is killed after half a minute. */
const ANSWER_MS_MAX = 150_000;
const times = upgradeTimes("{}");
/** The minimum by design. */
const floorOf = (name: string, ms: number) => ({ name, value: ms / 1_000 });

type Kind = {
  readonly name: string;
  readonly spoil?: (path: string) => void;
  readonly outcome: MachineVersion["history"][number]["outcome"];
  /** The minimum by design, in seconds. */
  readonly floor?: { readonly name: string; readonly value: number };
};

const CRASH_AFTER_MS = 5_000;
const kinds: readonly Kind[] = [
  { name: "a good version is taken", outcome: "succeeded", floor: floorOf("its soak", times.soak) },
  {
    name: "taken back: the daemon exits",
    spoil: prepend("bureau-daemon", "process.exit(3);"),
    outcome: "rolled-back",
  },
  {
    name: "taken back: the daemon exits in its soak",
    spoil: prepend("bureau-daemon", `setTimeout(()=>process.exit(3),${CRASH_AFTER_MS});`),
    outcome: "rolled-back",
    floor: floorOf("until it exits", CRASH_AFTER_MS),
  },
  {
    name: "taken back: the daemon hangs",
    spoil: prepend("bureau-daemon", "for(;;){}"),
    outcome: "rolled-back",
    floor: floorOf("its watchdog", times.proof + times.margin),
  },
  {
    name: "taken back: the daemon cannot reach the homeserver",
    spoil: prepend("bureau-daemon", 'globalThis.fetch=()=>Promise.reject(new TypeError("no"));'),
    outcome: "rolled-back",
    floor: floorOf("its time to prove itself", times.proof),
  },
  {
    name: "taken back: the launcher exits",
    spoil: prepend("bureau-launcher", "process.exit(4);"),
    outcome: "rolled-back",
  },
  {
    name: "taken back: the launcher hangs",
    spoil: prepend("bureau-launcher", "for(;;){}"),
    outcome: "rolled-back",
    floor: floorOf("its time to answer", times.launcherProof),
  },
];

export async function benchUpgrade(): Promise<Figure[]> {
  console.error("upgrade: skips a rollout over 50 machines, which is the benchmark upgrade-fleet");
  const gap = await benchUpgradeGap();
  const moved = await benchHostEnv();
  using versions = new TestBuilds();
  const each = await Promise.all(kinds.map((kind) => timeOf(kind, versions)));
  return [...gap, ...each, ...moved];
}

async function timeOf({ name, spoil, outcome, floor }: Kind, versions: TestBuilds): Promise<Figure> {
  await using machine = await UpgradableBureau.open();
  const path = versions.make(spoil);
  const began = performance.now();
  const { history } = await machine.ask(path, ANSWER_MS_MAX);
  const seconds = (performance.now() - began) / 1_000;
  if (history[0]?.outcome !== outcome)
    throw new BureauError("failed", `"${name}" ended as ${history[0]?.outcome}: ${history[0]?.reason}`);
  return figure(name, seconds, "s", floor);
}

if (import.meta.main) console.log(JSON.stringify(await benchUpgrade(), null, 2));
