/** `bureau template show`: a template with all that it inherits; with --raw, as it was published. */
import {
  readResolvedTemplate,
  readTemplate,
  roomsOnce,
  templateHint,
} from "@bureau/control/templates/template-store";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { openSession } from "../command/operator.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  raw: { type: "boolean", summary: "Only its own fields, without inherited ones" },
});
const positionals = definePositionals([
  { name: "ref", summary: "Template reference, bureau/template:agent" },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show a template with everything it inherits",
  positionals,
  flags,
  examples: ["bureau template show bureau/template:agent"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const reference = invocation.args.ref;
  const session = openSession(invocation);
  if (invocation.flags.raw) {
    const found = await readTemplate(session, reference, roomsOnce(session));
    if ("problem" in found) throw await notFound(session, reference, found.problem);
    invocation.terminal.json(found.template);
    return;
  }
  const resolved = await readResolvedTemplate(session, reference);
  if (!resolved.ok) throw await notFound(session, reference, resolved.problem);
  if (!invocation.flags.json) invocation.terminal.say(`${resolved.lineage.join(" → ")}\n`);
  invocation.terminal.json(
    invocation.flags.json
      ? { ref: reference, lineage: resolved.lineage, template: resolved.template }
      : resolved.template,
  );
}

const notFound = async (session: MatrixSession, reference: string, problem: string): Promise<BureauError> =>
  new BureauError("not-found", `Cannot show the template "${reference}": ${problem}`, {
    hint: await templateHint(session, reference),
  });
