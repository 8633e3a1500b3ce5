/** The launcher's command line (wire facts, section 9.11) as one typed value, checked before anything is touched. */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { type Layout, systemLayout } from "@bureau/kit/layout";
import type { Log } from "@bureau/kit/log";
import {
  type FleetLocalpart,
  fleetOf,
  LOCALPART_BYTES_MAX,
  localpartBytesMaxFor,
  type MachineLocalpart,
  parseFleet,
  parseMachine,
  parseServerName,
  type ServerName,
} from "@bureau/schema/refs";

export type LauncherConfig = {
  readonly layout: Layout;
  readonly homeserverUrl: string;
  readonly machine: MachineLocalpart;
  readonly serverName: ServerName;
  readonly fleet: FleetLocalpart;
  /** The built programs: `bin/bureau-proxy` is started from it, and sandboxes see it read-only. */
  readonly programsDir: string;
  /** How a proxy is started, before its own arguments. Default `[<programsDir>/bin/bureau-proxy]`. */
  readonly proxyCommand: readonly string[];
  /** `-` is standard input. */
  readonly bootstrapFile: string | undefined;
  readonly registrationTokenFile: string | undefined;
  readonly firstBootOnly: boolean;
};

const options = {
  homeserver: { type: "string", default: "http://localhost:6167" },
  "machine-name": { type: "string" },
  "server-name": { type: "string", default: "bureau.local" },
  fleet: { type: "string" },
  "run-dir": { type: "string", default: systemLayout.runDir },
  "state-dir": { type: "string", default: systemLayout.stateDir },
  "workspace-root": { type: "string", default: systemLayout.workspaceRoot },
  "cache-root": { type: "string", default: systemLayout.cacheRoot },
  "programs-dir": { type: "string" },
  "bootstrap-file": { type: "string" },
  "registration-token-file": { type: "string" },
  "first-boot-only": { type: "boolean", default: false },
  version: { type: "boolean", default: false },
} as const;

/** Parses flags; the string `version` when only that was asked for. @throws BureauError or RefError */
export function parseLauncherFlags(args: readonly string[]): LauncherConfig | "version" {
  const { values } = read(args);
  if (values.version) return "version";
  const machine = parseMachine(required(values["machine-name"], "--machine-name"));
  const fleet = parseFleet(required(values.fleet, "--fleet"));
  if (fleetOf(machine) !== fleet)
    throw new BureauError("invalid-input", `The machine "${machine}" is not in the fleet "${fleet}"`);
  if (values["bootstrap-file"] !== undefined && values["registration-token-file"] !== undefined)
    throw new BureauError(
      "invalid-input",
      "--bootstrap-file and --registration-token-file exclude each other",
    );
  // The runtime folder lies beside the bundle: dist/lib/<program>.js.
  const programsDir = resolve(values["programs-dir"] ?? resolve(import.meta.dirname, ".."));
  return {
    layout: {
      runDir: resolve(values["run-dir"]),
      stateDir: resolve(values["state-dir"]),
      workspaceRoot: resolve(values["workspace-root"]),
      cacheRoot: resolve(values["cache-root"]),
    },
    homeserverUrl: values.homeserver.replace(/\/+$/, ""),
    machine,
    serverName: parseServerName(values["server-name"]),
    fleet,
    programsDir,
    proxyCommand: [resolve(programsDir, "bin/bureau-proxy")],
    bootstrapFile: values["bootstrap-file"],
    registrationTokenFile: values["registration-token-file"],
    firstBootOnly: values["first-boot-only"],
  };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: false });
  } catch (error) {
    throw new BureauError("invalid-input", messageOf(error), { hint: "see docs for the launcher's flags" });
  }
}

function required(value: string | undefined, flag: string): string {
  if (value !== undefined && value !== "") return value;
  throw new BureauError("invalid-input", `${flag} is missing`);
}

/** Sockets of principals must fit below the run folder. @throws BureauError when not even one could */
export function checkSocketRoom(config: LauncherConfig, log: Log): void {
  const { runDir } = config.layout;
  if (localpartBytesMaxFor(runDir) < 1)
    throw new BureauError(
      "invalid-input",
      `The run folder "${runDir}" is too long: no socket fits below it`,
      {
        hint: "choose a shorter --run-dir",
      },
    );
  if (localpartBytesMaxFor(runDir) < LOCALPART_BYTES_MAX)
    log.warn("the run folder is long: principals with long names cannot be started", {
      runDir,
      localpartBytesMax: localpartBytesMaxFor(runDir),
    });
}
