/** `bureau status`: what this machine runs, from its own sockets; works while the homeserver is away. */

import { isBureauError } from "@bureau/kit/errors";
import { systemLayout } from "@bureau/kit/layout";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { machineReport } from "../instance/daemon-client.ts";
import { type Installation, requireInstallation } from "../instance/installation.ts";
import type { Instance } from "../instance/instance.ts";
import { supervisorStatus } from "../instance/supervisor-wire.ts";
import { unitStates } from "../system/systemctl.ts";

/** One program as `status --json` shows it. */
type ProgramStatus = { readonly state: string; readonly pid: number | null; readonly restarts: number };

export type Status = {
  /** The folder that holds it all, or a system installation's state. */
  readonly home: string;
  readonly installation: Installation["kind"];
  /** `listen`: where it answers other clients; null when nowhere. */
  readonly homeserver: ProgramStatus & { readonly url: string; readonly listen: string | null };
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

/** Who looks after the programs, and how each is. */
type Programs = {
  readonly home: string;
  readonly supervisor: number | null;
  readonly of: (name: "homeserver" | "launcher" | "daemon") => ProgramStatus;
};

export async function statusOf(installation: Installation): Promise<Status> {
  const programs =
    installation.kind === "system" ? await ofSystemd() : await ofSupervisor(installation.instance);
  const report = await unlessAway(machineReport(installation.layout));
  const { name, fleet, state, reason } = report?.machine ?? {
    name: installation.machine,
    fleet: installation.fleet,
    state: "offline",
    reason: programs.supervisor === null ? "Bureau is down" : "the daemon does not answer",
  };
  return {
    home: programs.home,
    installation: installation.kind,
    homeserver: {
      ...programs.of("homeserver"),
      url: installation.homeserverUrl,
      listen: installation.kind === "rootless" ? (installation.instance.listen ?? null) : null,
    },
    launcher: programs.of("launcher"),
    daemon: programs.of("daemon"),
    supervisor: { pid: programs.supervisor },
    machine: { name, fleet, state, ...(reason === undefined ? {} : { reason }) },
    principals: report?.principals ?? [],
  };
}

async function ofSupervisor({ layout }: Instance): Promise<Programs> {
  const supervisor = await unlessAway(supervisorStatus(layout));
  return {
    home: layout.home,
    supervisor: supervisor?.pid ?? null,
    of(name) {
      const found = supervisor?.programs.find((candidate) => candidate.name === name);
      return { state: found?.state ?? "stopped", pid: found?.pid ?? null, restarts: found?.restarts ?? 0 };
    },
  };
}

/** systemd is the supervisor of a system installation; the homeserver is somebody else's. */
async function ofSystemd(): Promise<Programs> {
  const units = await unitStates(["bureau-launcher.service", "bureau-daemon.service"]);
  return {
    home: systemLayout.stateDir,
    supervisor: 1,
    of(name) {
      if (name === "homeserver") return { state: "elsewhere", pid: null, restarts: 0 };
      const found = units.get(`bureau-${name}.service`);
      const state = found?.sub === "running" ? "running" : (found?.active ?? "unknown");
      return { state, pid: found?.pid ?? null, restarts: found?.restarts ?? 0 };
    },
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
  const status = await statusOf(requireInstallation(invocation));
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
      ["PRINCIPAL", "STATE", "HEALTH", "PID", "TEMPLATE", "REASON"],
      status.principals.map((principal) => [
        principal.name,
        principal.state,
        principal.health ?? "",
        principal.pid === undefined ? "" : String(principal.pid),
        principal.template,
        principal.reason ?? "",
      ]),
    );
  }
  return status.machine.state === "online" ? 0 : 1;
}
