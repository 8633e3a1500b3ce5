/** `bureau audit verify`: walks each machine's chain of audit events, and says where it does not hold. */
import { verifyAudit } from "@bureau/control/audit/verify-audit";
import type { Verified } from "@bureau/control/audit/verify-chain";
import { findMachine, type ListedMachine, listMachinesNow } from "@bureau/control/machines/list-machines";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { runStep } from "@bureau/kit/run-step";
import type { MatrixSession } from "@bureau/matrix/session";
import { type ChainHead, ChainHeadSchema } from "@bureau/schema/audit";
import { type MachineLocalpart, parseMachine } from "@bureau/schema/refs";
import * as v from "valibot";
import { UsageError } from "../command/command.ts";
import { defaultFleet, machineOf, openSession } from "../command/operator.ts";
import type { Terminal } from "../command/terminal.ts";
import type { AuditAsked } from "./audit-flags.ts";

type Outcome = { readonly machine: string } & (
  | ({ readonly ok: boolean } & Verified)
  | { readonly ok: false; readonly error: string }
);

const exit = { holds: 0, broken: 1, unread: 2 } as const;

/** The exit code. */
export async function verify(invocation: AuditAsked): Promise<number> {
  const { terminal, flags } = invocation;
  for (const name of ["principal", "since", "limit", "follow"] as const)
    if (flags[name] !== undefined && flags[name] !== false)
      throw new UsageError(
        `--${name} cannot be used with verify: a chain is verified as a whole`,
        `omit --${name}`,
      );
  const session = openSession(invocation);
  const seen = flags.head === undefined ? [] : [parseHead(flags.head)];
  const outcomes: Outcome[] = [];
  for (const [machine, heads] of await chainsOf(invocation, session))
    outcomes.push(
      await runStep(
        terminal,
        `verify the audit events of ${machine}`,
        () => outcomeOf(session, machine, [...heads, ...seen]),
        sentenceOf,
      ),
    );
  if (flags.json) terminal.json({ ok: outcomes.every(({ ok }) => ok), machines: outcomes });
  else report(terminal, outcomes);
  if (outcomes.some((outcome) => "error" in outcome)) return exit.unread;
  return outcomes.every(({ ok }) => ok) ? exit.holds : exit.broken;
}

/** The machines, each with the end of its chain as its last heartbeat names it. */
async function chainsOf(
  invocation: AuditAsked,
  session: MatrixSession,
): Promise<readonly (readonly [MachineLocalpart, readonly ChainHead[]])[]> {
  const headsOf = (found: ListedMachine | undefined): readonly ChainHead[] =>
    found?.audit_head === undefined ? [] : [found.audit_head];
  if (invocation.flags.machine !== undefined) {
    const machine = machineOf(invocation, invocation.flags.machine);
    return [[machine, headsOf(await findMachine(session, machine))]];
  }
  const listed = await listMachinesNow(session, defaultFleet(invocation));
  return listed.map((one) => [parseMachine(one.name), headsOf(one)] as const);
}

async function outcomeOf(
  session: MatrixSession,
  machine: MachineLocalpart,
  heads: readonly ChainHead[],
): Promise<Outcome> {
  try {
    const verified = await verifyAudit(session, machine, heads);
    return { machine, ok: verified.findings.length === 0, ...verified };
  } catch (error) {
    if (!isBureauError(error) || (error.code !== "forbidden" && error.code !== "not-found")) throw error;
    return { machine, ok: false, error: messageOf(error) };
  }
}

function sentenceOf(outcome: Outcome): string {
  if ("error" in outcome) return `${outcome.machine}: ${outcome.error}`;
  const { machine, findings, events, chains } = outcome;
  const again = chains > 1 ? `, in ${chains} chains` : "";
  return findings.length === 0
    ? `${machine}: ${events} events${again}, the chain holds`
    : `${machine}: ${events} events${again}, ${findings.length} findings`;
}

function report(terminal: Terminal, outcomes: readonly Outcome[]): void {
  if (outcomes.length === 0) terminal.print("No machine has joined this fleet.");
  for (const outcome of outcomes) {
    terminal.print(sentenceOf(outcome));
    if ("error" in outcome) continue;
    for (const { fault, sequence, event_id, message } of outcome.findings)
      terminal.print(
        `  ${fault}  after event ${sequence}: ${message}${event_id === "" ? "" : ` (${event_id})`}`,
      );
    const { head } = outcome;
    if (head !== undefined) terminal.print(`  head  ${head.chain}:${head.sequence}:${head.hash}`);
  }
}

/** As `verify` prints it. @throws UsageError */
function parseHead(typed: string): ChainHead {
  const [chain, sequence, hash] = typed.split(":");
  const parsed = v.safeParse(ChainHeadSchema, { chain, sequence: Number(sequence), hash });
  if (!parsed.success)
    throw new UsageError(`--head "${typed}" is not CHAIN:NUMBER:HASH`, "copy it from bureau audit verify");
  return parsed.output;
}
