/**
 * Changes some fields of a template and leaves the others, also unknown ones. When another operator wrote in between, the
 * change is applied to what they wrote.
 */
import { BureauError } from "@bureau/kit/errors";
import { EDIT_ATTEMPTS_MAX, keepsChanging, replaceState, type StateContent } from "@bureau/matrix/edit-state";
import { checkContent } from "@bureau/matrix/event-content";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { type EventId, parseEventId, parseStateRef, serverOf } from "@bureau/schema/refs";
import { type Template, TemplateSchema } from "@bureau/schema/template";
import { roomOf } from "../rooms/places.ts";
import { refuseUnknownFields, templateHint } from "./template-store.ts";

/** From the present content to the wanted one. Applied again when another operator wrote in between. */
export type TemplateEdit = (content: StateContent) => StateContent;

/** Deeper than any field of a template. */
const PATH_SEGMENTS_MAX = 8;

/** Sets the field at a dotted `path`, or leaves it out when `value` is undefined. */
export function withField(content: StateContent, path: string, value: unknown): StateContent {
  const segments = path.split(".");
  if (segments.length > PATH_SEGMENTS_MAX || segments.some((name) => name === "" || name === "__proto__"))
    throw new BureauError("invalid-input", `"${path}" is not the path of a field`, {
      hint: "such as environment_variables.PORT or health_check.interval_seconds",
    });
  return withSegments(content, segments, value, path);
}

function withSegments(
  content: StateContent,
  segments: readonly string[],
  value: unknown,
  path: string,
): StateContent {
  const [name = "", ...rest] = segments;
  if (rest.length === 0) {
    const { [name]: _, ...others } = content;
    return value === undefined ? others : { ...content, [name]: value };
  }
  const inner = Object.hasOwn(content, name) ? content[name] : undefined;
  if (inner === undefined && value === undefined) return content;
  if (inner !== undefined && (typeof inner !== "object" || inner === null || Array.isArray(inner)))
    throw new BureauError("invalid-input", `"${path}" is no field: "${name}" holds no fields`, {
      hint: `set all of ${name} as JSON`,
    });
  return { ...content, [name]: withSegments((inner ?? {}) as StateContent, rest, value, path) };
}

export type StoredTemplate = { readonly content: StateContent; readonly eventId: EventId };

/** The template as it stands. @throws BureauError `not-found` */
export async function storedTemplate(session: MatrixSession, reference: string): Promise<StoredTemplate> {
  const { room, server, name } = parseStateRef(reference);
  const id = await roomOf(session, room, server ?? serverOf(session.userId));
  const event = await session.stateEvent(id, eventTypes.template, name);
  if (event === undefined || isCleared(event.content) || !(await session.counts(id, event)))
    throw new BureauError("not-found", `There is no template "${reference}"`, {
      hint: await templateHint(session, reference),
    });
  return { content: event.content, eventId: parseEventId(event.eventId) };
}

/** The edited template, checked by itself. @throws BureauError | InputError */
export function editedTemplate(content: StateContent, edit: TemplateEdit, reference: string): Template {
  const edited = edit(content);
  refuseUnknownFields(edited, `template "${reference}" after the change`);
  checkContent(edited, `template "${reference}"`);
  return parse(TemplateSchema, edited, `template "${reference}" after the change`);
}

/** Writes the change, on top of what others write meanwhile. Returns the last event written. */
export async function writeEdit(
  session: MatrixSession,
  reference: string,
  from: StoredTemplate,
  edit: TemplateEdit,
): Promise<EventId> {
  const { room, server, name } = parseStateRef(reference);
  const place = {
    room: await roomOf(session, room, server ?? serverOf(session.userId)),
    type: eventTypes.template,
    key: name,
  };
  const known = new Set<string>();
  let base = from;
  for (let attempt = 0; attempt < EDIT_ATTEMPTS_MAX; attempt++) {
    const { eventId, unseen } = await replaceState(session, place, base.eventId, edit(base.content), known);
    if (unseen === undefined) return eventId;
    // Their content is edited next, and that write replaces ours.
    editedTemplate(unseen.content, edit, reference);
    base = { content: unseen.content, eventId };
  }
  throw keepsChanging(`the template "${reference}"`);
}
