/** `bureau auth allow`: permits others to act on a principal. */
import { addAllowance } from "@bureau/control/authorization/lasting-rules";
import { BureauError } from "@bureau/kit/errors";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedAction } from "../command/typed-users.ts";
import { ruleEditor } from "./rule-editor.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  actor: { type: "string", multiple: true, value: "USER", summary: "Who may: a user or a pattern" },
});
const positionals = definePositionals([
  { name: "principal", summary: "The principal that is acted on" },
  { name: "action", summary: "observe, interrupt, …", rest: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Permit others to act on a principal",
  details:
    "Observation needs this alone. Every other act also needs a grant of the actor: bureau auth grant.\nbureau auth revoke PRINCIPAL ACTION takes it back.",
  positionals,
  flags,
  examples: ["bureau auth allow agent/greeter observe --actor agent/demo"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal, args } = invocation;
  const actions = args.action.map(typedAction);
  if (actions.length === 0 || invocation.flags.actor.length === 0)
    throw new BureauError("invalid-input", "An action and an --actor are needed", {
      hint: "bureau auth allow agent/greeter observe --actor agent/demo",
    });
  const { editor, place, user, pattern } = ruleEditor(invocation);
  const principal = user(args.principal);
  const allowance = {
    actions,
    actors: invocation.flags.actor.map(pattern),
  };
  const isNew = await addAllowance(editor, await place(), principal, allowance);
  if (invocation.flags.json) terminal.json({ principal, allowance, changed: isNew });
  else terminal.print(isNew ? `allowed on ${principal}` : `${principal} has this allowance already`);
}
