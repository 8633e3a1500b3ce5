/**
 * `npm run bench -- [NAME…] [--json]`: the figures, each beside its floor or a peer measured in the same run.
 * Ratios mean something on any machine; milliseconds only on this one.
 */
import { cpus } from "node:os";
import { build } from "../scripts/build.ts";
import { benchCreate } from "./create.ts";
import { benchFleet } from "./fleet.ts";
import { benchFootprint } from "./footprint.ts";
import { benchHeartbeatGrowth } from "./heartbeat-growth.ts";
import { benchHostEnv } from "./host-env.ts";
import { benchProxy } from "./proxy.ts";
import { benchScale } from "./scale.ts";
import { benchStartUp } from "./start-up.ts";
import { type Figure, figure } from "./statistics.ts";
import { benchUpgrade } from "./upgrade.ts";
import { benchUpgradeFleet } from "./upgrade-fleet.ts";

const suites: Readonly<Record<string, () => Promise<Figure[]>>> = {
  "start-up": benchStartUp,
  create: benchCreate,
  proxy: proxyFigures,
  footprint: benchFootprint,
  "heartbeat-growth": benchHeartbeatGrowth,
  "host-env": benchHostEnv,
  upgrade: benchUpgrade,
};
/** Run only when asked for by name: they need root, or minutes. */
const onlyByName: typeof suites = {
  fleet: benchFleet,
  scale: benchScale,
  "upgrade-fleet": benchUpgradeFleet,
};
const every = { ...suites, ...onlyByName };

async function proxyFigures(): Promise<Figure[]> {
  const { direct, proxy, nginx, addedP50Ms, addedP95Ms } = await benchProxy();
  const addedByNginx =
    nginx === undefined ? undefined : { name: "added by nginx", value: nginx.p50Ms - direct.p50Ms };
  return [
    figure("proxy, latency added at p50", addedP50Ms, "ms", addedByNginx, "≤ 0.15 ms"),
    figure("proxy, latency added at p95", addedP95Ms, "ms"),
    figure("proxy, throughput", proxy.perSecond, "requests/s", { name: "direct", value: direct.perSecond }),
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
        ]),
  ];
}

const args = process.argv.slice(2);
const json = args.includes("--json");
const wanted = args.filter((arg) => !arg.startsWith("-"));
const unknown = wanted.filter((name) => !Object.hasOwn(every, name));
if (unknown.length > 0) {
  console.error(`There is no benchmark "${unknown[0]}"; there are ${Object.keys(every).join(", ")}`);
  process.exit(2);
}
await build();
const results: Record<string, Figure[]> = {};
for (const [name, run] of Object.entries(wanted.length > 0 ? every : suites)) {
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

function text({ name, value, unit, against, aim }: Figure): string {
  const beside =
    against === undefined ? "" : `  (${against.ratio}× ${against.name}, ${against.value} ${unit})`;
  return `${name}: ${value} ${unit}${beside}${aim === undefined ? "" : `  aim ${aim}`}`;
}
