/** `bureau template list`: the templates in a room. */
import { listTemplates } from "@bureau/control/templates/list-templates";
import { rooms } from "@bureau/schema/refs";
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
  const listed = await listTemplates(session, await roomArgument(session, typed));
  const templates = listed.map(({ name, template }) => ({
    ref: `${typed}:${name}`,
    description: template === undefined ? "(cannot be read)" : (template.description ?? ""),
    inherits: template?.inherits ?? [],
  }));
  if (invocation.flags.json) terminal.json({ templates });
  else
    terminal.table(
      ["TEMPLATE", "INHERITS", "DESCRIPTION"],
      templates.map((template) => [template.ref, template.inherits.join(" "), template.description]),
    );
}
