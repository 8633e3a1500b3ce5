/** The daemon's command line (wire facts, section 9.12) as one typed value, checked before anything is touched. */
import { resolve } from "node:path";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { systemHost } from "@bureau/os/layout";
import { type MachineConfig, parseMachineFlags } from "@bureau/os/machine-flags";

/** `homeserverUrl` may be empty: then the session file's address is used. */
export type DaemonConfig = MachineConfig & {
  /** Accepted for compatibility; no rule depends on it. */
  readonly adminUser: string;
  /** Between two heartbeats; at most 30 s. */
  readonly statusIntervalMs: number;
  /** Between SIGTERM and SIGKILL. */
  readonly drainGraceMs: number;
  /** The link to the version that is known to work, through which programs are started. */
  readonly bootLink: string;
};

/** A fleet controller suspects a machine it has not heard of for longer. */
const STATUS_INTERVAL_MS_MAX = 30_000;
/** The launcher's limit on a grace period. */
const GRACE_MS_MAX = 600_000;

/** Parses flags; the string `version` when only that was asked for. @throws BureauError or RefError */
export function parseDaemonFlags(args: readonly string[]): DaemonConfig | "version" {
  const parsed = parseMachineFlags(args, {
    "admin-user": { type: "string", default: "bureau-admin" },
    "status-interval": { type: "string", default: "30s" },
    "boot-link": { type: "string", default: systemHost.currentPrograms },
    "drain-grace-period": { type: "string", default: "10s" },
  });
  if (parsed === "version") return "version";
  const { machine, values } = parsed;
  return {
    ...machine,
    bootLink: resolve(values["boot-link"]),
    adminUser: values["admin-user"],
    statusIntervalMs: duration(values["status-interval"], "--status-interval", STATUS_INTERVAL_MS_MAX),
    drainGraceMs: duration(values["drain-grace-period"], "--drain-grace-period", GRACE_MS_MAX),
  };
}

/** More than `maxMs` counts as that. */
function duration(value: string, flag: string, maxMs: number): number {
  const ms = parseDuration(value, flag);
  if (ms === 0) throw new BureauError("invalid-input", `${flag} must be longer than nothing`);
  return Math.min(ms, maxMs);
}
