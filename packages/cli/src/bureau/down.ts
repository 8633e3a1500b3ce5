/** `bureau down`: stops everything an instance runs. */
import { findInstance } from "@bureau/instance/instance";
import { replaceSupervisor, takeTurn, tellToStop } from "@bureau/instance/supervisor-lock";
import { sweep } from "@bureau/instance/sweep";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { findInstallation } from "../command/installation.ts";
import { layoutOf } from "../command/operator.ts";
import { homeFlag, jsonFlag } from "../command/shared-flags.ts";

const flags = defineFlags({ ...homeFlag, ...jsonFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "Stop everything the instance runs; its data stays",
  flags,
  examples: ["bureau down"],
  run,
});

const STOP_SYSTEM =
  "this host is a machine of a fleet; to stop its programs: sudo systemctl stop bureau-daemon bureau-launcher";

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const layout = layoutOf(invocation);
  if (findInstance(layout) === undefined)
    throw new BureauError("not-found", `There is no Bureau in "${layout.home}"`, {
      hint: findInstallation(invocation)?.kind === "system" ? STOP_SYSTEM : "bureau up",
    });
  const step = terminal.step("Stopping agents, daemon, launcher and homeserver");
  // Sent before waiting for the turn, so that a running `bureau up` ends with its supervisor.
  const told = await tellToStop(layout);
  using _turn = await takeTurn(layout, terminal, systemClock);
  using supervisor = await replaceSupervisor(layout, systemClock);
  // Stops programs that a killed supervisor left running.
  const swept = await sweep(layout, systemClock);
  const wasUp = told || supervisor.wasUp;
  step.done(wasUp || swept.length > 0 ? "Bureau is down; its data stays" : "Bureau was down already");
  if (invocation.flags.json) terminal.json({ ok: true, was_up: wasUp, swept });
}
