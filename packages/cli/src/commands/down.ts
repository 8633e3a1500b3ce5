/** `bureau down`: stops everything an instance runs. */
import { systemClock } from "@bureau/kit/clock";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import type { InstanceLayout } from "@bureau/kit/layout";
import { identify, type ProcessId, waitUntilGone } from "@bureau/kit/process-table";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { findInstance } from "../instance/instance.ts";
import { layoutOf } from "../instance/operator.ts";
import { sweep } from "../instance/supervisor.ts";
import { stopSupervisor, supervisorStatus } from "../instance/supervisor-wire.ts";

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

/** Tells the supervisor to stop and waits until its process is gone. False when there was none. */
async function stopSupervised(layout: InstanceLayout): Promise<boolean> {
  let supervisor: ProcessId | undefined;
  try {
    supervisor = identify((await supervisorStatus(layout)).pid);
    await stopSupervisor(layout);
  } catch (error) {
    if (isBureauError(error) && error.code === "unavailable") return false;
    throw error;
  }
  if (supervisor !== undefined && !(await waitUntilGone(supervisor, STOP_MS_MAX, systemClock)))
    throw new BureauError("timeout", `Bureau did not stop within ${STOP_MS_MAX / 1000} s`, {
      hint: "bureau status",
    });
  return true;
}
