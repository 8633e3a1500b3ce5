/** Every assigned agent starts by itself: waits until none is starting or stopping, and describes what runs. */
import type { Clock } from "@bureau/kit/clock";
import type { Step } from "@bureau/kit/run-step";
import { waitFor } from "@bureau/kit/wait-for";
import type { MachineReport } from "@bureau/schema/observe-wire";

/** Limit for all agents together; a thousand take minutes on a slow machine. */
const ALL_MS_MAX = 3_600_000;

/** Gives up when no further agent became ready for `stallMs`. Returns the last report. */
export async function waitForAgents(
  read: () => Promise<MachineReport>,
  shown: Pick<Step, "update">,
  { stallMs, clock }: { readonly stallMs: number; readonly clock: Clock },
): Promise<MachineReport> {
  let last = await read();
  let least = busyIn(last);
  let movedAt = clock.monotonic();
  const isOver = async (): Promise<true | undefined> => {
    if (least === 0 || clock.monotonic() - movedAt > stallMs) return true;
    last = await read();
    const busy = busyIn(last);
    if (busy < least) [least, movedAt] = [busy, clock.monotonic()];
    shown.update(describeAgents(last));
    return undefined;
  };
  await waitFor(isOver, { timeoutMs: ALL_MS_MAX, clock });
  return last;
}

const busyIn = ({ principals }: MachineReport): number =>
  principals.filter(({ state }) => state === "starting" || state === "stopping").length;

/** `Agents: 3 running, 1 completed`. */
export function describeAgents(report: MachineReport): string {
  const counts = new Map<string, number>();
  for (const { state } of report.principals) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].map(([state, count]) => `${count} ${state}`);
  return `Agents: ${parts.length === 0 ? "none" : parts.join(", ")}`;
}
