/**
 * `npm run bench -- [NAME…] [--json]`: the figures, each beside its floor or a peer measured in the same run.
 * Ratios mean something on any machine; milliseconds only on this one.
 *
 * `npm run bench -- --short` runs what needs little time, and fails when a ratio is beyond its `ratioMax`. It ends with
 * "N passed, N failed", one for each such ratio.
 */
import { cpus } from "node:os";
import { build } from "../scripts/build.ts";
import { benchCreate } from "./create.ts";
import { benchFleet } from "./fleet.ts";
import { benchFootprint } from "./footprint.ts";
import { benchGrowth } from "./growth.ts";
import { benchHeartbeatGrowth } from "./heartbeat-growth.ts";
import { benchHostEnv } from "./host-env.ts";
import { benchPeers } from "./peers.ts";
import { benchProxy } from "./proxy.ts";
import { benchProxyMemory } from "./proxy-memory.ts";
import { benchScale } from "./scale.ts";
import { benchStartUp } from "./start-up.ts";
import { type Figure, figure } from "./statistics.ts";
import { benchTrust } from "./trust.ts";
import { benchUpgrade } from "./upgrade.ts";
import { benchUpgradeFleet } from "./upgrade-fleet.ts";
import { benchUpgradeGap } from "./upgrade-gap.ts";

const SHORT_ROUNDS = 8;
const suites: Readonly<Record<string, () => Promise<Figure[]>>> = {
  "start-up": benchStartUp,
  create: benchCreate,
  proxy: proxyFigures,
  footprint: benchFootprint,
  growth: benchGrowth,
  "heartbeat-growth": benchHeartbeatGrowth,
  "host-env": benchHostEnv,
  trust: benchTrust,
  upgrade: benchUpgrade,
};
/** Run only when asked for by name: they need root, or minutes. */
const onlyByName: typeof suites = {
  fleet: benchFleet,
  peers: benchPeers,
  scale: benchScale,
  "upgrade-fleet": benchUpgradeFleet,
};
/** The short form: with fewer rounds, and nothing that waits for minutes. */
const short: typeof suites = {
  "start-up": benchStartUp,
  create: () => benchCreate(SHORT_ROUNDS),
  growth: benchGrowth,
  "heartbeat-growth": benchHeartbeatGrowth,
  "host-env": benchHostEnv,
  trust: benchTrust,
  "upgrade-gap": () => benchUpgradeGap(SHORT_ROUNDS),
};
const every = { ...suites, ...onlyByName };

async function proxyFigures(): Promise<Figure[]> {
  const { direct, proxy, floor, nginx, addedP50Ms, addedP95Ms } = await benchProxy();
  const addedByNginx =
    nginx === undefined ? undefined : { name: "added by nginx", value: nginx.p50Ms - direct.p50Ms };
  return [
    figure("proxy, latency added at p50", addedP50Ms, "ms", addedByNginx, "≤ 0.15 ms"),
    figure("proxy, latency added at p95", addedP95Ms, "ms"),
    figure("proxy, throughput", proxy.perSecond, "requests/s", { name: "direct", value: direct.perSecond }),
    figure("proxy, throughput", proxy.perSecond, "requests/s", {
      name: "the runtime's server and client alone",
      value: floor.perSecond,
    }),
    ...(nginx === undefined
      ? []
      : [
          figure(
            "proxy, throughput",
            proxy.perSecond,
            "requests/s",
            { name: "nginx", value: nginx.perSecond },
            "≥ 0.7×",
          ),
          figure("  the runtime's server and client alone", floor.perSecond, "requests/s", {
            name: "nginx",
            value: nginx.perSecond,
          }),
        ]),
    ...(await benchProxyMemory()),
  ];
}

const args = process.argv.slice(2);
const json = args.includes("--json");
const chosen = args.includes("--short") ? short : suites;
const wanted = args.filter((arg) => !arg.startsWith("-"));
const known = chosen === short ? short : every;
const unknown = wanted.find((name) => !Object.hasOwn(known, name));
if (unknown !== undefined) {
  console.error(`There is no benchmark "${unknown}"; there are ${Object.keys(known).join(", ")}`);
  process.exit(2);
}
await build();
const results: Record<string, Figure[]> = {};
for (const [name, run] of Object.entries(wanted.length > 0 ? known : chosen)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  if (!json) console.log(`\n${name}`);
  else console.error(`${name} …`);
  const figures = await run();
  results[name] = figures;
  if (!json) for (const line of figures) console.log(`  ${text(line)}`);
}
if (json)
  console.log(
    JSON.stringify({ machine: { cores: cpus().length, model: cpus()[0]?.model }, results }, null, 2),
  );
if (chosen === short) process.exit(judge(Object.values(results).flat()));

/** Prints how many bounded ratios hold. @returns the exit code */
function judge(figures: readonly Figure[]): number {
  const bounded = figures.filter(({ ratioMax }) => ratioMax !== undefined);
  const beyond = bounded.filter(
    ({ against, ratioMax }) => !((against?.ratio ?? Number.NaN) <= (ratioMax ?? 0)),
  );
  for (const figure of beyond)
    console.error(`(fail) ${text(figure)}: the ratio must stay below ${figure.ratioMax}×`);
  console.error(`${bounded.length - beyond.length} passed, ${beyond.length} failed`);
  return beyond.length > 0 || bounded.length === 0 ? 1 : 0;
}

function text({ name, value, unit, against, aim }: Figure): string {
  const beside =
    against === undefined ? "" : `  (${against.ratio}× ${against.name}, ${against.value} ${unit})`;
  return `${name}: ${value} ${unit}${beside}${aim === undefined ? "" : `  aim ${aim}`}`;
}
