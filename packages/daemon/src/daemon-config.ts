/** The daemon's command line (wire facts, section 9.12) as one typed value, checked before anything is touched. */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { type Layout, systemLayout } from "@bureau/kit/layout";
import {
  type FleetLocalpart,
  fleetOf,
  localpartBytesMaxFor,
  type MachineLocalpart,
  parseFleet,
  parseMachine,
  parseServerName,
  type ServerName,
} from "@bureau/schema/refs";

export type DaemonConfig = {
  readonly layout: Layout;
  /** Where the homeserver is; the session file's address is used when this is empty. */
  readonly homeserverUrl: string;
  readonly machine: MachineLocalpart;
  readonly serverName: ServerName;
  readonly fleet: FleetLocalpart;
  /** Accepted for compatibility; no rule depends on it. */
  readonly adminUser: string;
  /** Between two heartbeats; at most {@link STATUS_INTERVAL_MS_MAX}. */
  readonly statusIntervalMs: number;
  /** Between SIGTERM and SIGKILL. */
  readonly drainGraceMs: number;
};

/** A fleet controller suspects a machine it has not heard of for longer. */
export const STATUS_INTERVAL_MS_MAX = 30_000;
/** The launcher's limit on a grace period. */
const GRACE_MS_MAX = 600_000;

const options = {
  homeserver: { type: "string", default: "" },
  "machine-name": { type: "string" },
  "server-name": { type: "string", default: "bureau.local" },
  fleet: { type: "string" },
  "run-dir": { type: "string", default: systemLayout.runDir },
  "state-dir": { type: "string", default: systemLayout.stateDir },
  "workspace-root": { type: "string", default: systemLayout.workspaceRoot },
  "cache-root": { type: "string", default: systemLayout.cacheRoot },
  "admin-user": { type: "string", default: "bureau-admin" },
  "status-interval": { type: "string", default: "30s" },
  "drain-grace-period": { type: "string", default: "10s" },
  version: { type: "boolean", default: false },
} as const;

/** Parses flags; the string `version` when only that was asked for. @throws BureauError or RefError */
export function parseDaemonFlags(args: readonly string[]): DaemonConfig | "version" {
  const { values } = read(args);
  if (values.version) return "version";
  const machine = parseMachine(required(values["machine-name"], "--machine-name"));
  const fleet = values.fleet === undefined ? fleetOf(machine) : parseFleet(values.fleet);
  if (fleetOf(machine) !== fleet)
    throw new BureauError("invalid-input", `The machine "${machine}" is not in the fleet "${fleet}"`);
  const runDir = resolve(values["run-dir"]);
  if (localpartBytesMaxFor(runDir) < 1)
    throw new BureauError(
      "invalid-input",
      `The run folder "${runDir}" is too long: no socket fits below it`,
      {
        hint: "choose a shorter --run-dir",
      },
    );
  return {
    layout: {
      runDir,
      stateDir: resolve(values["state-dir"]),
      workspaceRoot: resolve(values["workspace-root"]),
      cacheRoot: resolve(values["cache-root"]),
    },
    homeserverUrl: values.homeserver.replace(/\/+$/, ""),
    machine,
    serverName: parseServerName(values["server-name"]),
    fleet,
    adminUser: values["admin-user"],
    statusIntervalMs: duration(values["status-interval"], "--status-interval", STATUS_INTERVAL_MS_MAX),
    drainGraceMs: duration(values["drain-grace-period"], "--drain-grace-period", GRACE_MS_MAX),
  };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: false });
  } catch (error) {
    throw new BureauError("invalid-input", messageOf(error), { hint: "see docs for the daemon's flags" });
  }
}

function required(value: string | undefined, flag: string): string {
  if (value !== undefined && value !== "") return value;
  throw new BureauError("invalid-input", `${flag} is missing`);
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** `500ms`, `30s`, `5m`; more than `maxMs` counts as that. */
function duration(value: string, flag: string, maxMs: number): number {
  const match = /^(\d+)(ms|s|m|h)$/.exec(value);
  const ms = Number(match?.[1]) * (unitMs[match?.[2] ?? ""] ?? Number.NaN);
  if (!(ms > 0))
    throw new BureauError("invalid-input", `${flag} "${value}" is not a duration such as 500ms, 30s or 5m`);
  return Math.min(ms, maxMs);
}
