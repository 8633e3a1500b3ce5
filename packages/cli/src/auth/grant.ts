/** `bureau auth grant`: lets a principal act, for a time or until it is revoked. */
import { addGrant } from "@bureau/control/authorization/lasting-rules";
import { grantForTime } from "@bureau/control/authorization/temporal-grants";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedAction } from "../command/typed-users.ts";
import { ruleEditor } from "./rule-editor.ts";

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
  const rules = ruleEditor(invocation);
  const { editor } = rules;
  const principal = rules.user(args.principal);
  const targets = target.map(rules.pattern);
  const place = await rules.place();
  if (forMs !== undefined) {
    const request = { principal, actions, targets, forMs, ticket };
    const made = await grantForTime(editor, place.room, request, systemClock);
    if (invocation.flags.json) terminal.json(made);
    else terminal.print(`granted to ${principal} until ${made.grant.expires_at}: ticket ${made.ticket}`);
    return;
  }
  const grant = { actions, ...(targets.length === 0 ? {} : { targets }), granted_by: editor.session.userId };
  const isNew = await addGrant(editor, place, principal, grant);
  if (invocation.flags.json) terminal.json({ principal, grant, changed: isNew });
  else terminal.print(isNew ? `granted to ${principal}` : `${principal} has this grant already`);
}
