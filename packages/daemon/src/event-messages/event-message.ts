/** The daemon's messages to the config room (wire facts, section 4.3): one builder each, with the wire's fields. */
import { eventMessages } from "@bureau/schema/events";
import type { SandboxExit } from "@bureau/schema/launcher-ipc";
import type { PrincipalName } from "@bureau/schema/refs";

/** Content of an `m.room.message`. `body` is for people, the other fields for programs. */
export type EventMessage = Readonly<Record<string, unknown>> & {
  readonly msgtype: string;
  readonly body: string;
};

/** Lines of a failed program's terminal that are posted (wire facts, section 12.1). */
const OUTPUT_LINES_MAX = 50;
/** An event may have 64 KiB in all (Matrix specification); the text may double when it is escaped. */
const OUTPUT_CHARS_MAX = 24_000;
const ERROR_CHARS_MAX = 4_000;

type Account = PrincipalName;
const cut = (text: string): string =>
  text.length > ERROR_CHARS_MAX ? `${text.slice(0, ERROR_CHARS_MAX)}…` : text;

export const eventMessage = {
  adopted: (principal: Account): EventMessage => ({
    msgtype: eventMessages.principalAdopted,
    body: `${principal} was already running; this daemon manages it now`,
    principal,
  }),
  started: (principal: Account): EventMessage => ({
    msgtype: eventMessages.principalStarted,
    body: `${principal} started`,
    principal,
  }),
  startFailed: (principal: Account, error: string): EventMessage => ({
    msgtype: eventMessages.principalStartFailed,
    body: cut(`${principal} cannot start: ${error}`),
    principal,
    error: cut(error),
  }),
  restarted: (principal: Account, template: string): EventMessage => ({
    msgtype: eventMessages.principalRestarted,
    body: `${principal} restarted with its new configuration`,
    principal,
    template,
  }),
  stopped: (principal: Account): EventMessage => ({
    msgtype: eventMessages.principalStopped,
    body: `${principal} stopped: it should no longer run on this machine`,
    principal,
  }),
  exited: (principal: Account, exit: SandboxExit): EventMessage => ({
    msgtype: eventMessages.sandboxExited,
    body: `${principal} ${exit.description}`,
    principal,
    exit_code: exit.code,
    exit_description: exit.description,
    ...(exit.code === 0 || exit.output === undefined ? {} : { captured_output: lastLines(exit.output) }),
  }),
  payloadUpdated: (principal: Account): EventMessage => ({
    msgtype: eventMessages.payloadUpdated,
    body: `${principal} received a new payload`,
    principal,
  }),
  grantsUpdated: (principal: Account, count: number): EventMessage => ({
    msgtype: eventMessages.grantsUpdated,
    body: `${principal} now has ${count} grants`,
    principal,
    grant_count: count,
  }),
  proxyCrash: (
    principal: Account,
    status: "detected" | "recovered" | "failed",
    error?: string,
  ): EventMessage => ({
    msgtype: eventMessages.proxyCrash,
    body: `The proxy of ${principal}: ${status}`,
    principal,
    status,
    ...(error === undefined ? {} : { error: cut(error) }),
  }),
  credentialsRotated: (
    principal: Account,
    status: "live_updated" | "failed",
    error?: string,
  ): EventMessage => ({
    msgtype: eventMessages.credentialsRotated,
    body: cut(
      error === undefined
        ? `The proxy of ${principal} has new credentials`
        : `${principal} keeps its previous credentials: ${error}`,
    ),
    principal,
    status,
    ...(error === undefined ? {} : { error: cut(error) }),
  }),
  healthCheck: (
    principal: Account,
    outcome: "destroyed" | "rolled_back" | "rollback_failed",
    error: string,
  ): EventMessage => ({
    msgtype: eventMessages.healthCheck,
    body: cut(`${principal} ${healthOutcomes[outcome]}: ${error}`),
    principal,
    outcome,
    error: cut(error),
  }),
  steady: (principal: Account, template: string): EventMessage => ({
    msgtype: eventMessages.principalSteady,
    body: `${principal} works with its new configuration`,
    principal,
    template,
  }),
  selfUpdate: (
    previous: string,
    next: string,
    status: "in_progress" | "succeeded" | "failed",
    error?: string,
  ): EventMessage => ({
    msgtype: eventMessages.daemonSelfUpdate,
    body: cut(`The daemon's replacement by ${next}: ${status}${error === undefined ? "" : `: ${error}`}`),
    previous_binary: previous,
    new_binary: next,
    status,
    ...(error === undefined ? {} : { error: cut(error) }),
  }),
  configInvalid: (error: string): EventMessage => ({
    msgtype: eventMessages.configInvalid,
    body: cut(`The configuration of this machine has a fault: ${error}`),
    error: cut(error),
  }),
} as const;

const healthOutcomes = {
  destroyed: "was stopped because its health check failed",
  rolled_back: "runs its previous configuration again, because the new one failed",
  rollback_failed: "cannot go back to its previous configuration",
} as const;

/** The last lines of a terminal, blank ones at its end left out. */
function lastLines(output: string): string {
  const lines = output.trimEnd().split("\n");
  return lines.slice(-OUTPUT_LINES_MAX).join("\n").slice(-OUTPUT_CHARS_MAX);
}
