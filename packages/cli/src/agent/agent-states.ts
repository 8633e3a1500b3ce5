/**
 * The states of assigned principals. Assignments are the desired state; the actual state comes from the daemon on this
 * machine, and from the last heartbeat of other machines.
 */
import { agentStateOf, type UnknownBecause } from "@bureau/control/machines/agent-state";
import { type SeenMachine, seenMachine } from "@bureau/control/machines/presence";
import { isAway } from "@bureau/control/unless-away";
import { withAge } from "@bureau/kit/age";
import { systemClock } from "@bureau/kit/clock";
import { isBureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { machineReport } from "@bureau/os/daemon-client";
import type { PrincipalAssignment } from "@bureau/schema/events";
import { type MachineLocalpart, principalNameOf, principalOfUser } from "@bureau/schema/refs";
import { findInstallation, type InstallationChoice } from "../command/installation.ts";
import { sayNext } from "../command/say-next.ts";
import type { Terminal } from "../command/terminal.ts";
import { asTyped } from "../command/typed-command.ts";
import { absenceOf } from "../machine/absence.ts";
import { reportAgent } from "./agent-report.ts";

type Reported = ReturnType<typeof reportAgent>;
export type ListedAgent =
  | Reported
  | (Omit<Reported, "state"> & { readonly state: "unknown" | "not-running" });

export async function withStates(
  invocation: InstallationChoice,
  session: MatrixSession,
  machine: MachineLocalpart,
  assignments: readonly PrincipalAssignment[],
): Promise<ListedAgent[]> {
  const here = findInstallation(invocation);
  const stateOf =
    here?.machine === machine
      ? await statesHere(here.layout)
      : statesThere(machine, await seenMachine(session, machine), systemClock.now());
  return assignments
    .map((assignment): ListedAgent => {
      const seen = stateOf(assignment);
      if ("name" in seen) return seen;
      const principal = principalNameOf(principalOfUser(assignment.principal));
      return {
        name: principal.replace(/^agent\//, ""),
        principal,
        user_id: assignment.principal,
        template: assignment.template,
        restarts: 0,
        ...seen,
      };
    })
    .sort((a, b) => (a.principal < b.principal ? -1 : 1));
}

/** Assignments that a list of agents leaves out. */
export function sayUnreadable(terminal: Terminal, machine: MachineLocalpart, unreadable: number): void {
  if (unreadable === 0) return;
  terminal.say(`\nEntries of the configuration that cannot be read: ${unreadable}`);
  sayNext(terminal, `bureau machine config ${machine} names them; --repair takes them out`);
}

type Guess = Pick<ListedAgent, "state" | "reason">;
type StateOf = (assignment: PrincipalAssignment) => Reported | Guess;

async function statesHere(layout: Parameters<typeof machineReport>[0]): Promise<StateOf> {
  try {
    const { principals } = await machineReport(layout);
    const byUser = new Map(principals.map((one) => [one.user_id, one]));
    return ({ principal }) => {
      const live = byUser.get(principal);
      return live === undefined
        ? { state: "unknown", reason: "the daemon has not read its assignment yet" }
        : reportAgent(live);
    };
  } catch (error) {
    if (isBureauError(error) && error.code === "forbidden")
      return () => ({
        state: "unknown",
        reason: asTyped("you have no access to the daemon: bureau status shows how to get it"),
      });
    if (!isAway(error)) throw error;
    return () => ({
      state: "unknown",
      reason: asTyped("the daemon does not answer: bureau status says why"),
    });
  }
}

/** The states of agents of another machine, in words. */
export const statesThere =
  (name: MachineLocalpart, machine: SeenMachine, now: number): StateOf =>
  (assignment) => {
    const seen = agentStateOf(machine, assignment, now);
    switch (seen.state) {
      case "unknown":
        return { state: "unknown", reason: unknownBecause(name, seen.because, now) };
      case "not-running":
        return {
          state: "not-running",
          reason: `as of ${withAge(seen.last_seen, now)}; why: bureau matrix messages ${name}`,
        };
      default:
        return seen;
    }
  };

function unknownBecause(name: MachineLocalpart, because: UnknownBecause, now: number): string {
  if (because.state === "forbidden") return "you may not read the fleet's machine room";
  if (because.state === "unlisted") return `${name} does not report its agents`;
  if (because.state === "omitted") return `${name} runs more agents than a heartbeat lists`;
  return `${name} ${absenceOf(because, now) ?? ""}`;
}
