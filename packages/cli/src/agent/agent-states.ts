/**
 * The states of assigned principals. Assignments are the desired state; the actual state comes from the daemon on this
 * machine, and from the last heartbeat of other machines.
 */

import {
  isOnline,
  type ListedMachine,
  offlineSince,
  seenMachine,
} from "@bureau/control/machines/list-machines";
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
    return ({ principal }) => {
      const live = principals.find(({ user_id }) => user_id === principal);
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

/** From the machine's last heartbeat, which names the running agents, and no reasons for the others. */
export function statesThere(
  name: MachineLocalpart,
  machine: ListedMachine | "forbidden" | undefined,
  now: number,
): StateOf {
  const unknown =
    (reason: string): StateOf =>
    () => ({ state: "unknown", reason });
  if (machine === "forbidden") return unknown("you may not read the fleet's machine room");
  if (machine === undefined) return unknown(`${name} has not joined the fleet`);
  if (!isOnline(machine, now)) return unknown(`${name} ${offlineSince(machine, now)}`);
  const { principals, last_seen = "" } = machine;
  if (principals === undefined) return unknown(`${name} does not report its agents`);
  return ({ principal, auto_start }) => {
    const seen = principals[principal];
    if (seen !== undefined) return { state: seen.status === "starting" ? "starting" : "running" };
    if (!auto_start) return { state: "stopped" };
    return {
      state: "not-running",
      reason: `as of ${withAge(last_seen, now)}; why: bureau matrix messages ${name}`,
    };
  };
}
