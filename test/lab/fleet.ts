/**
 * A fleet in a lab, made only with the commands that a person types: a homeserver, an operator's machine `op` where
 * alice is the administrator, and machines that join.
 */
import type { DoctorJson } from "@bureau/cli/machine/doctor-report";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { type CommandResult, quote } from "./execute.ts";
import type { LabHomeserver } from "./homeserver.ts";
import type { BootOptions, Lab } from "./lab.ts";
import type { Machine } from "./machine.ts";
import { buildInside, runtimeInside } from "./machine.ts";
import type { RunOptions } from "./way-in.ts";

export const FLEET = "bureau/fleet/prod";
export const bureau = `${buildInside}/bin/bureau`;
/** The installed command, as an operator in the group types it on a machine. */
export const installed = "/var/bureau/bin/bureau";

export class LabFleet {
  private constructor(
    readonly lab: Lab,
    readonly hs: LabHomeserver,
    /** The machine of alice, the administrator of the fleet. */
    readonly op: Machine,
  ) {}

  /** Homeserver, operator, namespace and fleet; `options` are for the operator's machine. */
  static async open(lab: Lab, engine: "embedded" | "synapse", options: BootOptions = {}): Promise<LabFleet> {
    const [hs, op] = await Promise.all([
      lab.homeserver({ engine }),
      lab.boot("op", { user: "alice", ...options }),
    ]);
    const fleet = new LabFleet(lab, hs, op);
    await op.ok("umask 077; cat > registration-token", { input: hs.registrationToken });
    if (hs.adminToken !== undefined) await op.ok("umask 077; cat > admin-token", { input: hs.adminToken });
    await op.ok(
      `${bureau} matrix setup --homeserver ${hs.url} --server-name ${hs.serverName} --registration-token-file registration-token`,
    );
    await op.ok(`${bureau} fleet create ${FLEET}`);
    return fleet;
  }

  /** `--admin-token-file` where the administrator is not a server admin. */
  get adminFlags(): string {
    return this.hs.adminToken === undefined ? "" : "--admin-token-file admin-token";
  }

  /** A bureau command of alice's on the operator's machine. */
  async command(args: string, options: RunOptions = {}): Promise<CommandResult> {
    return await this.op.run(`${bureau} ${args}`, options);
  }

  /** {@link command} that must succeed. */
  async do(args: string): Promise<string> {
    return await this.op.ok(`${bureau} ${args}`);
  }

  /** {@link command} that must succeed, with `--json`, parsed. */
  async json<T>(args: string, options: RunOptions = {}): Promise<T> {
    return await this.op.json<T>(`${bureau} ${args} --json`, options);
  }

  /** The text of a new bootstrap file for a machine of that name. */
  async provision(name: string): Promise<string> {
    return await this.op.ok(
      `${bureau} machine provision ${name} --fleet ${FLEET} ${this.adminFlags} --output -`,
    );
  }

  /** The doctor's flags for a machine of that name. */
  doctorFlags(name: string): string {
    const names = `--machine-name ${FLEET}/machine/${name} --server-name ${this.hs.serverName} --fleet ${FLEET}`;
    return `--homeserver ${this.hs.url} ${names} --bootstrap-file -`;
  }

  /** Joins `machine` as the specification's first workflow does, with alice's one sudo. Returns the seconds it took. */
  async join(machine: Machine, name = machine.name): Promise<{ report: DoctorJson; seconds: number }> {
    const input = await this.provision(name);
    const started = performance.now();
    const { code, stdout, stderr } = await machine.run(
      `${bureau} machine doctor --fix ${this.doctorFlags(name)} --json`,
      { user: "alice", input },
    );
    const seconds = (performance.now() - started) / 1000;
    if (code !== 0)
      throw new Error(`doctor --fix on ${machine.name} exited with ${code}:\n${stdout}\n${stderr}`);
    return { report: JSON.parse(stdout) as DoctorJson, seconds };
  }

  /** Creates an agent on a machine, from the operator's side. */
  async createAgent(machine: string, name: string, command: string): Promise<void> {
    await this.op.ok(
      `${bureau} agent create ${name} --machine ${FLEET}/machine/${machine} --command ${quote(command)}`,
    );
  }

  /** Resolves when that agent runs on the machine, not as the process `but`. Returns its program's pid there. */
  async agentRuns(machine: Machine, name: string, but?: number): Promise<number> {
    const found = await waitFor(
      async () => {
        // Exit code 1 only says that the machine is not online.
        const { stdout } = await machine.run(`${installed} status --json`, { user: "root" });
        const { principals } = JSON.parse(stdout) as Status;
        return principals.find(
          (one) => one.name === `agent/${name}` && one.state === "running" && one.pid !== but,
        )?.pid;
      },
      { timeoutMs: AGENT_MS_MAX, clock: systemClock },
    );
    if (found !== undefined) return found;
    const { stdout } = await machine.run(`${installed} status`, { user: "root" });
    throw new Error(
      `agent "${name}" does not run on ${machine.name}:\n${stdout}\n${await machine.journal()}`,
    );
  }
}

type Status = { readonly principals: readonly { name: string; state: string; pid?: number }[] };

/** Booting, syncing and starting sandboxes takes seconds; detecting an outage takes a minute. */
const AGENT_MS_MAX = 90_000;

/** The doctor's report; the exit code is checked against it. */
export async function examine(machine: Machine, flags = "", user = "root"): Promise<DoctorJson> {
  const { stdout, stderr, code } = await machine.run(`${bureau} machine doctor --json ${flags}`, { user });
  let said: DoctorJson;
  try {
    said = JSON.parse(stdout) as DoctorJson;
  } catch {
    throw new Error(`doctor on ${machine.name} exited with ${code}:\n${stdout}${stderr}`);
  }
  const expected = said.summary.fail > 0 ? 1 : 0;
  if (code !== expected) throw new Error(`doctor exited with ${code}, not ${expected}:\n${stdout}${stderr}`);
  return said;
}

export const repair = (machine: Machine): Promise<DoctorJson> => examine(machine, "--fix");

/** Ids of the checks with this status. */
export const having = (report: DoctorJson, status: "pass" | "warn" | "fail" | "skip"): string[] =>
  report.checks.filter((check) => check.status === status).map(({ id }) => id);

/** A property of the lab's host: its machines have control groups without controllers (docs/lab.md). */
const OF_THE_LAB = "resource-limits";

/** Ids of the checks that do not pass, with their status. */
export const complaints = (said: DoctorJson): Record<string, string> =>
  Object.fromEntries(
    said.checks.flatMap(({ id, status }) =>
      (status === "fail" || status === "warn") && id !== OF_THE_LAB ? [[id, status] as const] : [],
    ),
  );

/** Connects and prints what it receives, or the error. */
export const connecting = (socket: string): string =>
  `${runtimeInside} -e 'const s = require("node:net").connect(process.argv[1]);
s.on("connect", () => { console.log("connected"); setTimeout(() => s.destroy(), 500); });
s.on("data", (bytes) => console.log("said: " + bytes));
s.on("error", (error) => { console.error(error.code); process.exit(1); });' ${socket}`;
