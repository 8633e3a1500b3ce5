/** `bureau audit`: what was denied and which sensitive acts were allowed, across the fleet; `bureau audit verify` checks it. */
import { type AuditEntry, type AuditQuery, followAudit, readAudit } from "@bureau/control/audit/read-audit";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { fleetOf, machineLocalpart, serverOf } from "@bureau/schema/refs";
import { defineCommand, UsageError } from "../command/command.ts";
import { defaultFleet, machineOf, openSession } from "../command/operator.ts";
import type { Terminal } from "../command/terminal.ts";
import { asTypedUser, typedUser } from "../command/typed-users.ts";
import { untilSignal } from "../command/until-signal.ts";
import { type AuditAsked, auditFlags, auditPositionals } from "./audit-flags.ts";
import { verify } from "./verify.ts";

export const command = defineCommand({
  summary: "Print what was denied, and which sensitive acts were allowed; verify that nothing was removed",
  details:
    "Each machine records its decisions in its config room, as a chain (docs/audit.md). verify walks the chains: exit code\n0 each holds, 1 one does not, 2 it could not be read.",
  positionals: auditPositionals,
  flags: auditFlags,
  examples: [
    "bureau audit --since 24h",
    "bureau audit --machine gpu-box --principal agent/demo --follow",
    "bureau audit verify",
    "bureau audit verify --machine gpu-box --json",
  ],
  run,
});

const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 50_000;

async function run(invocation: AuditAsked): Promise<number> {
  const { act } = invocation.args;
  if (act === "verify") return verify(invocation);
  if (act !== undefined)
    throw new UsageError(`Unknown argument "${act}"`, "bureau audit, or bureau audit verify");
  if (invocation.flags.head !== undefined)
    throw new UsageError("--head is for verify", "bureau audit verify --machine NAME --head …");
  return print(invocation);
}

async function print(invocation: AuditAsked): Promise<number> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const query = queryOf(invocation, serverOf(session.userId));
  const { entries, position } = await readAudit(session, query);
  if (!invocation.flags.follow) {
    if (invocation.flags.json) terminal.json({ events: entries });
    else printTable(terminal, entries);
    return 0;
  }
  const show = (some: readonly AuditEntry[]): void => {
    for (const entry of some) terminal.print(invocation.flags.json ? JSON.stringify(entry) : lineOf(entry));
  };
  show(entries);
  await untilSignal((signal) => followAudit(session, query, position, show, signal));
  return 0;
}

function queryOf(invocation: AuditAsked, server: ReturnType<typeof serverOf>): AuditQuery {
  const typed = invocation.flags;
  const machine = typed.machine === undefined ? undefined : machineOf(invocation, typed.machine);
  const fleet = machine === undefined ? defaultFleet(invocation) : fleetOf(machine);
  const limit = typed.limit === undefined ? LIMIT_DEFAULT : Number(typed.limit);
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMIT_MAX)
    throw new BureauError(
      "invalid-input",
      `--limit "${typed.limit}" is not a whole number from 1 to ${LIMIT_MAX}`,
    );
  const { principal, since } = typed;
  return {
    fleet,
    machine,
    limit: typed.limit === undefined && since !== undefined ? LIMIT_MAX : limit,
    // Only the machine's fleet matters for a principal's name.
    principal:
      principal === undefined ? undefined : typedUser(machineLocalpart(fleet, "any"), server, principal),
    since: since === undefined ? undefined : systemClock.now() - parseDuration(since, "--since"),
  };
}

function printTable(terminal: Terminal, entries: readonly AuditEntry[]): void {
  if (entries.length === 0) {
    terminal.say("No audit events match.");
    return;
  }
  terminal.table(
    ["TIME", "MACHINE", "DECISION", "ACTOR", "ACTION", "TARGET", "TIMES", "WHY", "WHERE"],
    entries.map(cellsOf),
  );
}

const cellsOf = (entry: AuditEntry): string[] => [
  entry.time.replace(/\.\d+Z$/u, "Z"),
  entry.machine.slice(fleetOf(entry.machine).length + "/machine/".length),
  entry.decision,
  asTypedUser(entry.machine, entry.actor),
  entry.action,
  asTypedUser(entry.machine, entry.target),
  String(entry.count),
  entry.reason ?? entry.ticket ?? "",
  entry.enforcement_point,
];

const lineOf = (entry: AuditEntry): string =>
  cellsOf({ ...entry, reason: entry.reason ?? "" })
    .map((cell, column) => (column === 6 ? `×${cell}` : cell))
    .filter((cell) => cell !== "")
    .join("  ");
