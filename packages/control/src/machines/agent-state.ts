/** The state of an agent on another machine: its assignment compared with the machine's last heartbeat. Pure. */
import type { PrincipalAssignment } from "@bureau/schema/events";
import { type Presence, presenceOf, type SeenMachine } from "./presence.ts";

export type AgentState =
  | { readonly state: "starting" | "running" | "stopped" }
  /** It should run and does not. A heartbeat holds no reason. `last_seen`: RFC 3339, the heartbeat's time. */
  | { readonly state: "not-running"; readonly last_seen: string }
  | { readonly state: "unknown"; readonly because: UnknownBecause };

/**
 * Why the heartbeat does not show the state. `unlisted`: the machine does not report its agents. `omitted`: not all of them
 * fit into its heartbeat.
 */
export type UnknownBecause =
  | Exclude<Presence, { readonly state: "online" }>
  | { readonly state: "unlisted" }
  | { readonly state: "omitted" };

/** `now`: milliseconds since the epoch. */
export function agentStateOf(
  machine: SeenMachine,
  { principal, auto_start }: Pick<PrincipalAssignment, "principal" | "auto_start">,
  now: number,
): AgentState {
  const presence = presenceOf(machine, now);
  if (presence.state !== "online") return { state: "unknown", because: presence };
  const { principals, principals_omitted = 0, last_seen = "" } = typeof machine === "object" ? machine : {};
  if (principals === undefined) return { state: "unknown", because: { state: "unlisted" } };
  const running = principals[principal];
  if (running !== undefined) return { state: running.status === "starting" ? "starting" : "running" };
  // A heartbeat is one event: it leaves out what does not fit.
  if (auto_start && principals_omitted > 0) return { state: "unknown", because: { state: "omitted" } };
  return auto_start ? { state: "not-running", last_seen } : { state: "stopped" };
}
