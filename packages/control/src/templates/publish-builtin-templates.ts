/** The built-in templates in a namespace's template room. */
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import { type Namespace, type RoomId, rooms } from "@bureau/schema/refs";
import { digestOf } from "../digest.ts";
import { builtinTemplates } from "./builtin-templates.ts";

/**
 * Publishes the built-in templates; returns the names of those written. A template that an operator changed stays: it is
 * ours only while its content has the hash that its origin states.
 */
export async function publishBuiltinTemplates(
  session: MatrixSession,
  namespace: Namespace,
  room: RoomId,
): Promise<string[]> {
  const present = new Map(
    (await session.getRoomState(room)).flatMap(({ type, stateKey, content }) =>
      type === eventTypes.template ? [[stateKey, content] as const] : [],
    ),
  );
  const published: string[] = [];
  for (const { state_key: name, content } of builtinTemplateState(namespace)) {
    const old = present.get(name);
    if (old !== undefined && !isOurs(old, content.origin)) continue;
    await session.putState(room, eventTypes.template, name, content);
    published.push(name);
  }
  return published;
}

/** The state events of the built-in templates, each with the hash of its content. */
export const builtinTemplateState = (namespace: Namespace) =>
  Object.entries(builtinTemplates(rooms.template(namespace))).map(([name, template]) => ({
    type: eventTypes.template,
    state_key: name,
    content: { ...template, origin: { content_hash: digestOf(template) } },
  }));

/** True when `present` is an untouched built-in whose origin is another than `wanted`. */
function isOurs(present: unknown, wanted: { readonly content_hash: string }): boolean {
  if (typeof present !== "object" || present === null) return false;
  if (Object.keys(present).length === 0) return true;
  const { origin, ...content } = present as { origin?: { content_hash?: unknown } };
  return origin?.content_hash === digestOf(content) && canonicalJson(origin) !== canonicalJson(wanted);
}
