/** `bureau template list`: the templates a room holds. */
import { eventTypes, isCleared } from "@bureau/schema/events";
import { rooms } from "@bureau/schema/refs";
import { TemplateSchema } from "@bureau/schema/template";
import * as v from "valibot";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { namespaceOfInvocation, openSession, roomArgument } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const typed = invocation.args[0] ?? rooms.template(namespaceOfInvocation(invocation));
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
  if (booleanFlag(invocation, "json")) terminal.json({ templates });
  else
    terminal.table(
      ["TEMPLATE", "INHERITS", "DESCRIPTION"],
      templates.map((template) => [template.ref, template.inherits.join(" "), template.description]),
    );
}
