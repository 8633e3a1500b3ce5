/** `bureau template publish`: checks a template and what it inherits from, then writes it to its room. */

import { roomOf } from "@bureau/control/rooms/places";
import {
  readResolvedTemplate,
  refuseUnknownFields,
  templateHint,
} from "@bureau/control/templates/template-store";
import { BureauError } from "@bureau/kit/errors";
import { checkEvent } from "@bureau/matrix/event-content";
import { readNamed } from "@bureau/os/named-file";
import { eventTypes } from "@bureau/schema/events";
import { jsonObject, parse, parseJson } from "@bureau/schema/parse";
import { parseStateRef, serverOf } from "@bureau/schema/refs";
import { TemplateSchema } from "@bureau/schema/template";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { openSession } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const reference = invocation.args[0] ?? "";
  const { room, server, name } = parseStateRef(reference);
  const file = stringFlag(invocation, "file");
  if (file === undefined)
    throw new BureauError("invalid-input", "Which file? A template is published from JSON", {
      hint: `bureau template publish ${reference} --file PATH`,
    });
  const text = readNamed(file, "the template");
  const content = parseJson(jsonObject, text, `template in "${file}"`);
  const template = parse(TemplateSchema, content, `template in "${file}"`);
  refuseUnknownFields(content, `the template in "${file}"`);
  checkEvent(eventTypes.template, name, content);
  const session = openSession(invocation);
  const resolved = await readResolvedTemplate(session, reference, template);
  if (!resolved.ok)
    throw new BureauError("invalid-input", `Cannot publish "${reference}": ${resolved.problem}`, {
      hint: await templateHint(session, reference),
    });
  const dryRun = booleanFlag(invocation, "dry-run");
  const event = dryRun
    ? undefined
    : await session.putState(
        await roomOf(session, room, server ?? serverOf(session.userId)),
        eventTypes.template,
        name,
        content,
      );
  if (booleanFlag(invocation, "json"))
    terminal.json({ ok: true, ref: reference, event_id: event ?? null, dry_run: dryRun });
  else terminal.say(dryRun ? `"${reference}" is valid; nothing was written` : `Published "${reference}"`);
}
