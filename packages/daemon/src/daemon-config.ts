/** The daemon's command line (wire facts, section 9.12) as one typed value, checked before anything is touched. */
import { BureauError } from "@bureau/kit/errors";
import { type MachineConfig, parseMachineFlags } from "@bureau/kit/machine-flags";

/** `homeserverUrl` may be empty: then the session file's address is used. */
export type DaemonConfig = MachineConfig & {
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

/** Parses flags; the string `version` when only that was asked for. @throws BureauError or RefError */
export function parseDaemonFlags(args: readonly string[]): DaemonConfig | "version" {
  const parsed = parseMachineFlags(args, {
    "admin-user": { type: "string", default: "bureau-admin" },
    "status-interval": { type: "string", default: "30s" },
    "drain-grace-period": { type: "string", default: "10s" },
  });
  if (parsed === "version") return "version";
  const { machine, values } = parsed;
  return {
    ...machine,
    adminUser: values["admin-user"],
    statusIntervalMs: duration(values["status-interval"], "--status-interval", STATUS_INTERVAL_MS_MAX),
    drainGraceMs: duration(values["drain-grace-period"], "--drain-grace-period", GRACE_MS_MAX),
  };
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
