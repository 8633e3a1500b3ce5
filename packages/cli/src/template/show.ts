/** `bureau template show`: a template as it will be used, or with --raw as it was written. */

import { readResolvedTemplate, readTemplate, templateHint } from "@bureau/control/templates/template-store";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { openSession } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const reference = invocation.args[0] ?? "";
  const session = openSession(invocation);
  if (booleanFlag(invocation, "raw")) {
    const found = await readTemplate(session, reference);
    if ("problem" in found) throw await notFound(session, reference, found.problem);
    invocation.terminal.json(found.template);
    return;
  }
  const resolved = await readResolvedTemplate(session, reference);
  if (!resolved.ok) throw await notFound(session, reference, resolved.problem);
  if (!booleanFlag(invocation, "json")) invocation.terminal.say(`${resolved.lineage.join(" → ")}\n`);
  invocation.terminal.json(
    booleanFlag(invocation, "json")
      ? { ref: reference, lineage: resolved.lineage, template: resolved.template }
      : resolved.template,
  );
}

const notFound = async (session: MatrixSession, reference: string, problem: string): Promise<BureauError> =>
  new BureauError("not-found", `Cannot show the template "${reference}": ${problem}`, {
    hint: await templateHint(session, reference),
  });
