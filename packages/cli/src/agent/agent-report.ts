/** How agent commands describe a principal, and how they wait until its machine has acted on a change. */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { describeLimits } from "@bureau/kit/limits-report";
import { waitFor } from "@bureau/kit/wait-for";
import { machineReport } from "@bureau/os/daemon-client";
import type { SandboxConfinement } from "@bureau/schema/launcher-ipc";
import type { PrincipalReport } from "@bureau/schema/observe-wire";
import type { UserId } from "@bureau/schema/refs";
import { type InstallationChoice, requireInstallation } from "../command/installation.ts";

/** Creating a sandbox takes milliseconds; on a busy machine, seconds. */
const ACT_MS_MAX = 30_000;

/** The shape of one agent in every `--json`. */
export const reportAgent = (report: PrincipalReport) => ({
  name: report.name.replace(/^agent\//, ""),
  principal: report.name,
  user_id: report.user_id,
  state: report.state,
  template: report.template,
  restarts: report.restarts,
  ...(report.pid === undefined ? {} : { pid: report.pid }),
  ...(report.reason === undefined ? {} : { reason: report.reason }),
  ...(report.health === undefined ? {} : { health: report.health }),
  ...(report.rolled_back === undefined ? {} : { rolled_back: report.rolled_back }),
  ...(report.sandbox === undefined ? {} : { sandbox: report.sandbox }),
});

/** Pure. The layers of a sandbox: those in force, those not in force, and exceptions. */
export function describeSandbox({ layers, exceptions, limits }: SandboxConfinement): Record<string, string> {
  const named = (wanted: boolean): string =>
    Object.entries(layers)
      .flatMap(([name, holds]) => (holds === wanted ? [name.replaceAll("_", " ")] : []))
      .join(", ");
  return {
    sandbox: named(true),
    ...(named(false) === "" ? {} : { "not held": named(false) }),
    ...(limits === undefined ? {} : { limits: describeLimits(limits) }),
    ...(exceptions.length === 0 ? {} : { exceptions: exceptions.join(", ") }),
  };
}

const transient: readonly PrincipalReport["state"][] = ["starting", "stopping"];

/** Waits until the daemon has acted on the assignment that was written at `sentAt`. Returns the report of the principal. */
export async function waitUntilStarted(
  invocation: InstallationChoice,
  user: UserId,
  sentAt: number | undefined,
  clock: Clock,
): Promise<PrincipalReport> {
  const { layout } = requireInstallation(invocation);
  const report = await waitFor(
    async () => {
      const { config_sent_at: seen, principals } = await machineReport(layout);
      if (sentAt !== undefined && seen !== undefined && seen < sentAt) return undefined;
      const found = principals.find(({ user_id }) => user_id === user);
      return found === undefined || transient.includes(found.state) ? undefined : found;
    },
    { timeoutMs: ACT_MS_MAX, clock },
  );
  if (report === undefined)
    throw new BureauError("timeout", `The machine did not start ${user} within ${ACT_MS_MAX / 1000} s`, {
      hint: "bureau status",
    });
  return report;
}

/** Resolves when the machine no longer runs the principal. */
export async function waitUntilGone(
  invocation: InstallationChoice,
  user: UserId,
  clock: Clock,
): Promise<void> {
  const { layout } = requireInstallation(invocation);
  const gone = await waitFor(
    async () =>
      (await machineReport(layout)).principals.some(({ user_id }) => user_id === user) ? undefined : true,
    { timeoutMs: ACT_MS_MAX, clock },
  );
  if (gone === undefined)
    throw new BureauError("timeout", `The machine did not stop ${user} within ${ACT_MS_MAX / 1000} s`, {
      hint: "bureau status",
    });
}
