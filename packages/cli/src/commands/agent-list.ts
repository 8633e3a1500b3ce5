/** `bureau agent list`: the principals assigned to a machine and, on this machine, what each is doing. */

import { isBureauError } from "@bureau/kit/errors";
import type { PrincipalAssignment } from "@bureau/schema/events";
import { accountOf, type MachineLocalpart, principalOfUser } from "@bureau/schema/refs";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { machineReport } from "../instance/daemon-client.ts";
import { findInstallation } from "../instance/installation.ts";
import { configPlace, readAssignments } from "../instance/machine-config.ts";
import { machineOf, openSession } from "../instance/operator.ts";
import { reportAgent } from "./agent-report.ts";

export type ListedAgent =
  | ReturnType<typeof reportAgent>
  | (Omit<ReturnType<typeof reportAgent>, "state"> & { state: "unknown" });

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation);
  const { assignments, unreadable } = await readAssignments(session, await configPlace(session, machine));
  const agents = await withStates(invocation, machine, assignments);
  if (booleanFlag(invocation, "json")) {
    terminal.json(agents);
    return;
  }
  terminal.table(
    ["NAME", "STATE", "HEALTH", "RESTARTS", "TEMPLATE", "REASON"],
    agents.map((agent) => [
      agent.name,
      agent.state,
      agent.health ?? "",
      String(agent.restarts),
      agent.template,
      agent.reason ?? "",
    ]),
  );
  if (unreadable > 0) terminal.say(`\n${unreadable} further entries of the configuration cannot be read.`);
}

/** Assignments are what should be; what is comes from the daemon, when the machine is this one. */
export async function withStates(
  invocation: Invocation,
  machine: MachineLocalpart,
  assignments: readonly PrincipalAssignment[],
): Promise<ListedAgent[]> {
  const here = findInstallation(invocation);
  const report = here?.machine === machine ? await machineReport(here.layout).catch(unlessAway) : undefined;
  return assignments
    .map((assignment): ListedAgent => {
      const live = report?.principals.find(({ user_id }) => user_id === assignment.principal);
      if (live !== undefined) return reportAgent(live);
      const principal = accountOf(principalOfUser(assignment.principal));
      return {
        name: principal.replace(/^agent\//, ""),
        principal,
        user_id: assignment.principal,
        state: "unknown",
        template: assignment.template,
        restarts: 0,
      };
    })
    .sort((a, b) => (a.principal < b.principal ? -1 : 1));
}

function unlessAway(error: unknown): undefined {
  if (isBureauError(error) && error.code === "unavailable") return undefined;
  throw error;
}
