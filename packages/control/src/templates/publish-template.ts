/** Writes a whole template to its room, once it and everything it inherits from are valid. */
import { BureauError } from "@bureau/kit/errors";
import { checkEvent } from "@bureau/matrix/event-content";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { withSpelledProviders } from "@bureau/schema/proxy-providers";
import { type EventId, parseStateRef, serverOf } from "@bureau/schema/refs";
import { type Template, TemplateSchema } from "@bureau/schema/template";
import { roomOf } from "../rooms/places.ts";
import { readResolvedTemplate, refuseUnknownFields, templateHint } from "./template-store.ts";

type Content = Readonly<Record<string, unknown>>;

/**
 * Checks a template by itself: its schema, unknown fields, the size of its event. `what` names it in errors.
 * @throws InputError | BureauError `invalid-input`, `too-large`
 */
export function checkTemplate(content: Content, reference: string, what: string): Template {
  const template = parse(TemplateSchema, content, what);
  refuseUnknownFields(content, `the ${what}`);
  checkEvent(eventTypes.template, parseStateRef(reference).name, content);
  return template;
}

/** Checks that a checked template resolves. @throws BureauError `invalid-input` that names the fault */
export async function requireResolves(
  session: MatrixSession,
  reference: string,
  template: Template,
): Promise<void> {
  const resolved = await readResolvedTemplate(session, reference, template);
  if (resolved.ok) return;
  throw new BureauError("invalid-input", `Cannot publish "${reference}": ${resolved.problem}`, {
    hint: await templateHint(session, reference),
  });
}

/** Writes a template that was checked. @throws BureauError `not-found` for an unknown room, `forbidden` */
export async function publishTemplate(
  session: MatrixSession,
  reference: string,
  content: Content,
): Promise<EventId> {
  const { room, server, name } = parseStateRef(reference);
  const id = await roomOf(session, room, server ?? serverOf(session.userId));
  return session.putState(id, eventTypes.template, name, withSpelledProviders(content));
}
