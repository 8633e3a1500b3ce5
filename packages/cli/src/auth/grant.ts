/** `bureau auth grant`: lets a principal act, for a time or until it is revoked. */
import { addGrant } from "@bureau/control/authorization/lasting-rules";
import { grantForTime } from "@bureau/control/authorization/temporal-grants";
import { configPlace } from "@bureau/control/machines/machine-config";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { takeTurn } from "@bureau/os/turn";
import { serverOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedAction, typedPattern, typedUser } from "./typed-users.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  target: {
    type: "string",
    multiple: true,
    value: "USER",
    summary: "Whom it may act on: a user or a pattern (default: itself alone)",
  },
  for: { type: "string", value: "TIME", summary: "How long: 30m, 24h (default: until it is revoked)" },
  ticket: { type: "string", value: "ID", needs: ["for"], summary: "The ticket that the grant belongs to" },
});
const positionals = definePositionals([
  { name: "principal", summary: "A principal, or a person after @" },
  { name: "action", summary: "interrupt, observe/**, matrix/join, …", rest: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Let a principal act, for a time or until it is revoked",
  details:
    "An act on another principal also needs an allowance of that principal: bureau auth allow. The daemon obeys the\ngrant at its next sync, and ends it at its time; nothing restarts. A new grant clears those that have ended.",
  positionals,
  flags,
  examples: [
    "bureau auth grant agent/demo interrupt --target agent/greeter --for 30m",
    "bureau auth grant agent/demo matrix/join --for 1h --ticket tkt-12",
    "bureau auth grant agent/demo 'ticket/**'",
  ],
  run,
});

/** A year: what should hold longer is no grant for a time. */
const TIME_MS_MAX = 365 * 86_400_000;

async function run(invocation: Asked): Promise<void> {
  const { terminal, args } = invocation;
  const { target, ticket, for: time } = invocation.flags;
  const forMs = time === undefined ? undefined : parseDuration(time, "--for");
  if (forMs === 0 || (forMs ?? 1) > TIME_MS_MAX)
    throw new BureauError("invalid-input", `--for "${time}" is not between 1ms and 365d`, {
      hint: "without --for the grant holds until it is revoked",
    });
  const actions = args.action.map(typedAction);
  if (actions.length === 0) throw new BureauError("invalid-input", "No action was given");
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const server = serverOf(session.userId);
  const principal = typedUser(machine, server, args.principal);
  const targets = target.map((one) => typedPattern(machine, server, one));
  const place = await configPlace(session, machine);
  const editor = { session, takeTurn };
  if (forMs !== undefined) {
    const request = { principal, actions, targets, forMs, ticket };
    const made = await grantForTime(editor, place.room, request, systemClock);
    if (invocation.flags.json) terminal.json(made);
    else terminal.print(`granted to ${principal} until ${made.grant.expires_at}: ticket ${made.ticket}`);
    return;
  }
  const grant = { actions, ...(targets.length === 0 ? {} : { targets }), granted_by: session.userId };
  const isNew = await addGrant(editor, place, principal, grant);
  if (invocation.flags.json) terminal.json({ principal, grant, changed: isNew });
  else terminal.print(isNew ? `granted to ${principal}` : `${principal} has this grant already`);
}
