/** `bureau status`: what this machine runs, read from its own sockets; works without the homeserver. */
import type { Installation } from "@bureau/host/installation";
import type { Instance } from "@bureau/instance/instance";
import { supervisorStatus } from "@bureau/instance/supervisor-wire";
import { type BureauError, isBureauError } from "@bureau/kit/errors";
import { machineReport } from "@bureau/os/daemon-client";
import { systemLayout } from "@bureau/os/layout";
import { type UnitState, unitStates } from "@bureau/os/systemctl";
import { daemonUnit, launcherUnit, REVOKED } from "@bureau/os/unit-names";
import type { LimitsFact } from "@bureau/schema/launcher-ipc";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { requireInstallation } from "../command/installation.ts";
import { sayNext } from "../command/say-next.ts";
import { homeFlag, jsonFlag } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";

const flags = defineFlags({ ...homeFlag, ...jsonFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "Show what this machine runs",
  flags,
  examples: ["bureau status", "bureau status --json"],
  run,
});

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
    /** How far resource limits of agents are enforced. */
    readonly limits?: LimitsFact;
  };
  readonly principals: MachineReport["principals"];
  /** The next command when the daemon does not answer, or no supervisor runs. */
  readonly hint?: string;
};

/** What supervises the programs, and the state of each. */
type Programs = {
  readonly home: string;
  /** The daemon ended because the homeserver closed this machine's account or session. */
  readonly isRevoked: boolean;
  readonly supervisor: number | null;
  readonly of: (name: "homeserver" | "launcher" | "daemon") => ProgramStatus;
};

export async function statusOf(installation: Installation): Promise<Status> {
  const programs =
    installation.kind === "system" ? await ofSystemd() : await ofSupervisor(installation.instance);
  const report = await machineReport(installation.layout).catch(bureauErrorOrThrow);
  const limits = isBureauError(report) ? undefined : report.machine.limits;
  const { name, fleet, state, reason } = isBureauError(report)
    ? { name: installation.machine, fleet: installation.fleet, ...stateWithout(report, programs) }
    : report.machine;
  // When a supervisor is killed its programs keep running; only their daemon can report it.
  const unsupervised = programs.supervisor === null && !isBureauError(report);
  const of: Programs["of"] = (program) =>
    unsupervised ? { state: "unsupervised", pid: null, restarts: 0 } : programs.of(program);
  return {
    home: programs.home,
    installation: installation.kind,
    homeserver: {
      ...of("homeserver"),
      url: installation.homeserverUrl,
      listen: installation.kind === "rootless" ? (installation.instance.listen ?? null) : null,
    },
    launcher: of("launcher"),
    daemon: of("daemon"),
    supervisor: { pid: programs.supervisor },
    machine: {
      name,
      fleet,
      state,
      ...(reason === undefined ? {} : { reason }),
      ...(limits === undefined ? {} : { limits }),
    },
    principals: isBureauError(report) ? [] : report.principals,
    ...(isBureauError(report) && report.hint !== "" ? { hint: report.hint } : {}),
    ...(unsupervised
      ? { hint: "bureau up: without a supervisor, a program that ends is not started again" }
      : {}),
  };
}

/** The machine's state when its daemon gives no report. A user without access to the socket cannot tell that it is offline. */
function stateWithout(error: BureauError, programs: Programs): { state: string; reason: string } {
  if (programs.isRevoked)
    return { state: "revoked", reason: "it was decommissioned or revoked; its daemon does not start again" };
  if (error.code === "forbidden") return { state: "unknown", reason: error.message };
  if (error.code !== "unavailable" && error.code !== "timeout") throw error;
  return {
    state: "offline",
    reason: programs.supervisor === null ? "Bureau is down" : error.message,
  };
}

function bureauErrorOrThrow(error: unknown): BureauError {
  if (isBureauError(error)) return error;
  throw error;
}

async function ofSupervisor({ layout }: Instance): Promise<Programs> {
  const supervisor = await unlessAway(supervisorStatus(layout));
  return {
    home: layout.home,
    isRevoked:
      supervisor?.programs.some(({ name, state }) => name === "daemon" && state === "revoked") ?? false,
    supervisor: supervisor?.pid ?? null,
    of(name) {
      const found = supervisor?.programs.find((candidate) => candidate.name === name);
      return { state: found?.state ?? "stopped", pid: found?.pid ?? null, restarts: found?.restarts ?? 0 };
    },
  };
}

/** systemd is the supervisor of a system installation; Bureau does not run the homeserver. */
async function ofSystemd(): Promise<Programs> {
  const units = await unitStates([launcherUnit, daemonUnit]);
  return {
    home: systemLayout.stateDir,
    isRevoked: isRevoked(units.get(daemonUnit)),
    supervisor: 1,
    of(name) {
      if (name === "homeserver") return { state: "elsewhere", pid: null, restarts: 0 };
      const found = units.get(`bureau-${name}.service`);
      const state = found?.sub === "running" ? "running" : (found?.active ?? "unknown");
      return { state, pid: found?.pid ?? null, restarts: found?.restarts ?? 0 };
    },
  };
}

const isRevoked = (daemon: UnitState | undefined): boolean =>
  daemon?.exitStatus === REVOKED && daemon.active !== "active" && daemon.active !== "activating";

async function unlessAway<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isBureauError(error) && (error.code === "unavailable" || error.code === "timeout")) return undefined;
    throw error;
  }
}

/** Exit code 0 when the machine is online, 1 otherwise. */
async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const status = await statusOf(requireInstallation(invocation));
  if (invocation.flags.json) terminal.json(status);
  else {
    const { machine } = status;
    terminal.print(
      `machine     ${machine.name}: ${machine.state}${machine.reason ? ` (${asTyped(machine.reason)})` : ""}`,
    );
    for (const name of ["homeserver", "launcher", "daemon"] as const) {
      const { state, pid, restarts } = status[name];
      const details = [pid === null ? "" : `pid ${pid}`, restarts === 0 ? "" : `restarted ${restarts}×`];
      terminal.print(`${name.padEnd(12)}${[state, ...details].filter((text) => text !== "").join(", ")}`);
    }
    if (status.hint !== undefined) sayNext(terminal, status.hint);
    if (status.principals.length > 0) {
      terminal.print("");
      terminal.table(
        ["PRINCIPAL", "STATE", "HEALTH", "PID", "TEMPLATE", "REASON"],
        status.principals.map((principal) => [
          principal.name,
          principal.state,
          principal.health ?? "",
          principal.pid === undefined ? "" : String(principal.pid),
          principal.template,
          asTyped(principal.reason ?? ""),
        ]),
      );
    }
  }
  return status.machine.state === "online" ? 0 : 1;
}
