/** `bureau status`: what this machine runs, from its own sockets; works while the homeserver is away. */

import { isBureauError } from "@bureau/kit/errors";
import type { InstanceLayout } from "@bureau/kit/layout";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { machineReport } from "../instance/daemon-client.ts";
import { requireInstance } from "../instance/instance.ts";
import { layoutOf } from "../instance/operator.ts";
import { type ProgramReport, supervisorStatus } from "../instance/supervisor-wire.ts";

/** One program as `status --json` shows it. */
type ProgramStatus = { state: string; pid: number | null; restarts: number };

export type Status = {
  readonly home: string;
  readonly homeserver: ProgramStatus & { readonly url: string };
  readonly launcher: ProgramStatus;
  readonly daemon: ProgramStatus;
  readonly supervisor: { readonly pid: number | null };
  readonly machine: {
    readonly name: string;
    readonly fleet: string;
    readonly state: string;
    readonly reason?: string;
  };
  readonly principals: MachineReport["principals"];
};

/** @throws BureauError `not-found` when there is no instance */
export async function statusOf(layout: InstanceLayout): Promise<Status> {
  const instance = requireInstance(layout);
  const supervisor = await unlessAway(supervisorStatus(layout));
  const report = await unlessAway(machineReport(layout));
  const program = (name: ProgramReport["name"]): ProgramStatus => {
    const found = supervisor?.programs.find((candidate) => candidate.name === name);
    return { state: found?.state ?? "stopped", pid: found?.pid ?? null, restarts: found?.restarts ?? 0 };
  };
  const { name, fleet, state, reason } = report?.machine ?? {
    name: instance.machine,
    fleet: instance.fleet,
    state: "offline",
    reason: supervisor === undefined ? "Bureau is down" : "the daemon does not answer",
  };
  return {
    home: layout.home,
    homeserver: { ...program("homeserver"), url: instance.homeserverUrl },
    launcher: program("launcher"),
    daemon: program("daemon"),
    supervisor: { pid: supervisor?.pid ?? null },
    machine: { name, fleet, state, ...(reason === undefined ? {} : { reason }) },
    principals: report?.principals ?? [],
  };
}

async function unlessAway<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isBureauError(error) && (error.code === "unavailable" || error.code === "timeout")) return undefined;
    throw error;
  }
}

/** Exit code 0 when the machine is online, 1 otherwise. */
export async function run(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const status = await statusOf(layoutOf(invocation));
  if (booleanFlag(invocation, "json")) terminal.json(status);
  else {
    const { machine } = status;
    terminal.print(
      `machine     ${machine.name}: ${machine.state}${machine.reason ? ` (${machine.reason})` : ""}`,
    );
    for (const name of ["homeserver", "launcher", "daemon"] as const) {
      const { state, pid, restarts } = status[name];
      const details = [pid === null ? "" : `pid ${pid}`, restarts === 0 ? "" : `restarted ${restarts}×`];
      terminal.print(`${name.padEnd(12)}${[state, ...details].filter((text) => text !== "").join(", ")}`);
    }
    terminal.print("");
    terminal.table(
      ["PRINCIPAL", "STATE", "PID", "TEMPLATE", "REASON"],
      status.principals.map((principal) => [
        principal.name,
        principal.state,
        principal.pid === undefined ? "" : String(principal.pid),
        principal.template,
        principal.reason ?? "",
      ]),
    );
  }
  return status.machine.state === "online" ? 0 : 1;
}
