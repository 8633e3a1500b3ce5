/** `bureau template list`: the templates in a room. */
import { eventTypes, isCleared } from "@bureau/schema/events";
import { rooms } from "@bureau/schema/refs";
import { TemplateSchema } from "@bureau/schema/template";
import * as v from "valibot";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { namespaceOfInvocation, openSession, roomArgument } from "../command/operator.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
const positionals = definePositionals([
  { name: "room", summary: "Room localpart (default: bureau/template)", optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "List the templates of a room",
  positionals,
  flags,
  examples: ["bureau template list"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const typed = invocation.args.room ?? rooms.template(namespaceOfInvocation(invocation));
  const state = await session.getRoomState(await roomArgument(session, typed));
  const templates = state
    .filter((event) => event.type === eventTypes.template && !isCleared(event.content))
    .map((event) => {
      const parsed = v.safeParse(TemplateSchema, event.content);
      return {
        ref: `${typed}:${event.stateKey}`,
        description: parsed.success ? (parsed.output.description ?? "") : "(cannot be read)",
        inherits: parsed.success ? (parsed.output.inherits ?? []) : [],
      };
    })
    .sort((a, b) => (a.ref < b.ref ? -1 : 1));
  if (invocation.flags.json) terminal.json({ templates });
  else
    terminal.table(
      ["TEMPLATE", "INHERITS", "DESCRIPTION"],
      templates.map((template) => [template.ref, template.inherits.join(" "), template.description]),
    );
}
