/** `bureau auth revoke`: takes grants and allowances back. */
import { removeActions } from "@bureau/control/authorization/lasting-rules";
import { revokeTemporalGrants, type TicketGrant } from "@bureau/control/authorization/temporal-grants";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedAction } from "../command/typed-users.ts";
import { ruleEditor } from "./rule-editor.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  ticket: { type: "string", value: "ID", summary: "Revoke the temporal grant of this ticket" },
});
const positionals = definePositionals([
  { name: "principal", summary: "A principal, or a person after @", optional: true },
  { name: "action", summary: "As bureau auth grants shows it", optional: true, rest: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Take grants and allowances back",
  details:
    "With a principal alone, or --ticket, revokes temporal grants. With actions, also takes them out of the principal's\nlasting grants and allowances. Rules of templates, rooms and the machine stay.",
  positionals,
  flags,
  examples: [
    "bureau auth revoke agent/demo",
    "bureau auth revoke agent/demo interrupt",
    "bureau auth revoke --ticket tkt-12",
  ],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal, args } = invocation;
  const { ticket } = invocation.flags;
  if (args.principal === undefined && ticket === undefined)
    throw new UsageError("A principal or --ticket is needed", "bureau auth list shows the tickets");
  const { editor, user, ...rules } = ruleEditor(invocation);
  const principal = args.principal === undefined ? undefined : user(args.principal);
  const actions = args.action.map(typedAction);
  const place = await rules.place();
  const isMeant = (one: TicketGrant): boolean =>
    (ticket === undefined || one.ticket === ticket) &&
    (principal === undefined || one.principal === principal) &&
    (actions.length === 0 || one.grant.actions.some((action) => actions.includes(action)));
  const revoked = await revokeTemporalGrants(editor, place.room, isMeant);
  const changed =
    principal !== undefined && actions.length > 0 && ticket === undefined
      ? await removeActions(editor, place, principal, actions)
      : false;
  if (invocation.flags.json) terminal.json({ revoked: revoked.map((one) => one.ticket), changed });
  else {
    for (const one of revoked) terminal.print(`revoked ticket ${one.ticket} of ${one.principal}`);
    if (changed) terminal.print(`changed the rules of ${principal}`);
    if (revoked.length === 0 && !changed) terminal.print("there was nothing to revoke");
  }
}
