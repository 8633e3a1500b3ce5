/** The law of `fleet.ts` in short: what a heartbeat costs the homeserver must not grow with the fleet. */
import { HomeserverProcess } from "./homeserver-process.ts";
import { type Build, SimulatedFleet } from "./simulated-fleet.ts";
import { type Figure, figure } from "./statistics.ts";

const FEW = 20;
const MANY = 80;
const BEATS = 400;
/** A heartbeat that wakes every waiting machine gives more than 3. */
const RATIO_MAX = 2;

/** CPU milliseconds of the homeserver for one heartbeat, in a small fleet and in one four times as large. */
type Growth = { readonly few: number; readonly many: number };

async function heartbeatGrowth(): Promise<Readonly<Record<Build, Growth>>> {
  await using server = await HomeserverProcess.start();
  const fleet = await SimulatedFleet.open(server);
  const cost = async (build: Build): Promise<number> => {
    await using _following = await fleet.follow();
    await fleet.beatFast(fleet.machines.length, build);
    const before = server.usage.cpuMs;
    await fleet.beatFast(BEATS, build);
    return (server.usage.cpuMs - before) / BEATS;
  };
  const costs = async (): Promise<Record<Build, number>> => ({
    "this build": await cost("this build"),
    "an earlier build": await cost("an earlier build"),
  });
  await fleet.growTo(FEW);
  const few = await costs();
  await fleet.growTo(MANY);
  const many = await costs();
  const of = (build: Build): Growth => ({ few: few[build], many: many[build] });
  return { "this build": of("this build"), "an earlier build": of("an earlier build") };
}

export async function benchHeartbeatGrowth(): Promise<Figure[]> {
  return Object.entries(await heartbeatGrowth()).map(([build, { few, many }]) => {
    const beside = { name: `among ${FEW}`, value: few };
    const name = `homeserver CPU of a heartbeat of ${build} among ${MANY} machines`;
    return figure(name, many, "ms", beside, "≤ 1.5×", RATIO_MAX);
  });
}
