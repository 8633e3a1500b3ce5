/** The templates that a room holds. */
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared } from "@bureau/schema/events";
import type { RoomId } from "@bureau/schema/refs";
import { type Template, TemplateSchema } from "@bureau/schema/template";
import { safeParse } from "valibot";

/** `template` is undefined when the event is not a valid template. */
export type ListedTemplate = { readonly name: string; readonly template: Template | undefined };

/** By name. */
export async function listTemplates(session: MatrixSession, room: RoomId): Promise<ListedTemplate[]> {
  return (await session.getRoomState(room))
    .filter(({ type, content }) => type === eventTypes.template && !isCleared(content))
    .map(({ stateKey, content }) => {
      const parsed = safeParse(TemplateSchema, content);
      return { name: stateKey, template: parsed.success ? parsed.output : undefined };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
