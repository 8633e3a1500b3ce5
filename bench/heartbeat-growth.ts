/** The law of `fleet.ts` in short: what a heartbeat costs the homeserver must not grow with the fleet. */
import { HomeserverProcess } from "./homeserver-process.ts";
import { SimulatedFleet } from "./simulated-fleet.ts";
import { type Figure, figure } from "./statistics.ts";

const FEW = 20;
const MANY = 80;
const BEATS = 400;
/** When each heartbeat woke every waiting machine, it was above 3. */
const RATIO_MAX = 2;

/** CPU milliseconds of the homeserver for one heartbeat, in a small fleet and in one four times as large. */
async function heartbeatGrowth(): Promise<{ readonly few: number; readonly many: number }> {
  await using server = await HomeserverProcess.start();
  const fleet = await SimulatedFleet.open(server);
  const cost = async (machines: number): Promise<number> => {
    await fleet.growTo(machines);
    await using _following = await fleet.follow();
    await fleet.beatFast(machines);
    const before = server.usage.cpuMs;
    await fleet.beatFast(BEATS);
    return (server.usage.cpuMs - before) / BEATS;
  };
  return { few: await cost(FEW), many: await cost(MANY) };
}

export async function benchHeartbeatGrowth(): Promise<Figure[]> {
  const { few, many } = await heartbeatGrowth();
  const beside = { name: `among ${FEW}`, value: few };
  return [
    figure(`homeserver CPU of a heartbeat among ${MANY} machines`, many, "ms", beside, "≤ 1.5×", RATIO_MAX),
  ];
}
