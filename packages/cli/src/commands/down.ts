/** `bureau down`: stops everything an instance runs. */
import { systemClock } from "@bureau/kit/clock";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import type { InstanceLayout } from "@bureau/kit/layout";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { findInstance } from "../instance/instance.ts";
import { layoutOf } from "../instance/operator.ts";
import { sweep } from "../instance/supervisor.ts";
import { stopSupervisor, supervisorStatus } from "../instance/supervisor-wire.ts";
import { waitFor } from "../instance/wait-for.ts";

/** Sandboxes get 5 s, the launcher 15, the daemon and homeserver 8 each. */
const STOP_MS_MAX = 60_000;

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const layout = layoutOf(invocation);
  if (findInstance(layout) === undefined)
    throw new BureauError("not-found", `There is no Bureau in "${layout.home}"`, { hint: "bureau up" });
  const step = terminal.step("Stopping agents, daemon, launcher and homeserver");
  const wasUp = await stopSupervised(layout);
  // What a killed supervisor left behind is stopped here.
  const swept = await sweep(layout, systemClock);
  step.done(wasUp || swept.length > 0 ? "Bureau is down; its data stays" : "Bureau was down already");
  if (booleanFlag(invocation, "json")) terminal.json({ ok: true, was_up: wasUp, swept });
}

/** Tells the supervisor to stop and waits until it has. False when there was none. */
async function stopSupervised(layout: InstanceLayout): Promise<boolean> {
  try {
    await stopSupervisor(layout);
  } catch (error) {
    if (isBureauError(error) && error.code === "unavailable") return false;
    throw error;
  }
  const gone = await waitFor(() => isGone(layout), { timeoutMs: STOP_MS_MAX, clock: systemClock });
  if (gone === undefined)
    throw new BureauError("timeout", `Bureau did not stop within ${STOP_MS_MAX / 1000} s`, {
      hint: "bureau status",
    });
  return true;
}

const isGone = (layout: InstanceLayout): Promise<true | undefined> =>
  supervisorStatus(layout).then(
    () => undefined,
    () => true,
  );
