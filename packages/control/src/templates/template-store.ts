/** Templates in Matrix rooms, with all that they inherit. */
import { BureauError } from "@bureau/kit/errors";
import { instead } from "@bureau/kit/nearest";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import {
  aliasOf,
  type Localpart,
  parseStateRef,
  type RoomId,
  type ServerName,
  serverOf,
} from "@bureau/schema/refs";
import { type Template, TemplateSchema } from "@bureau/schema/template";
import { gatherTemplates, type Resolution, resolveTemplate } from "@bureau/schema/template-resolution";
import { roomOf } from "../rooms/places.ts";
import type { RoomSnapshot, StateReader } from "../rooms/room-snapshot.ts";

type Found = { readonly template: Template } | { readonly problem: string };

type FindRoom = (room: Localpart, server: ServerName) => Promise<RoomId>;

/** Finds rooms by their aliases, each once: most templates of a lineage are in one room. */
export function roomsOnce(session: MatrixSession): FindRoom {
  const asked = new Map<string, Promise<RoomId>>();
  return (room, server) => {
    const alias = aliasOf(room, server);
    const found = asked.get(alias) ?? roomOf(session, room, server);
    asked.set(alias, found);
    return found;
  };
}

/** One template without what it inherits, or why it cannot be read. */
export async function readTemplate(
  session: Pick<StateReader, "userId" | "getState">,
  reference: string,
  find: FindRoom,
): Promise<Found> {
  const { room, server, name } = parseStateRef(reference);
  try {
    const id = await find(room, server ?? serverOf(session.userId));
    const content = await session.getState(id, eventTypes.template, name);
    if (typeof content !== "object" || content === null || isCleared(content as Record<string, unknown>))
      return { problem: `there is no template "${reference}"` };
    return { template: parse(TemplateSchema, content, `template "${reference}"`) };
  } catch (error) {
    if (error instanceof InputError || (error instanceof BureauError && error.code === "not-found"))
      return { problem: error.message };
    throw error;
  }
}

/** A template with all it inherits. `draft` replaces the content of `reference` itself. */
export async function readResolvedTemplate(
  session: MatrixSession,
  reference: string,
  draft?: Template,
): Promise<Resolution> {
  return await resolveBy(session, reference, roomsOnce(session), draft);
}

async function resolveBy(
  reader: Pick<StateReader, "userId" | "getState">,
  reference: string,
  find: FindRoom,
  draft?: Template,
): Promise<Resolution> {
  const lookup = await gatherTemplates(reference, (wanted) =>
    draft !== undefined && wanted === reference
      ? Promise.resolve({ template: draft })
      : readTemplate(reader, wanted, find),
  );
  return resolveTemplate(reference, lookup);
}

/** `snapshot`: reads from it what it has. @throws BureauError `not-found` with what is missing or invalid */
export async function requireTemplate(
  session: MatrixSession,
  reference: string,
  snapshot?: RoomSnapshot,
): Promise<Template> {
  const resolved =
    snapshot === undefined
      ? await readResolvedTemplate(session, reference)
      : await resolveBy(snapshot, reference, (room, server) => snapshot.roomOf(aliasOf(room, server)));
  if (!resolved.ok)
    throw new BureauError("not-found", `Cannot use the template "${reference}": ${resolved.problem}`, {
      hint: await templateHint(session, reference),
    });
  return resolved.template;
}

/** A hint for an unknown template: the nearest name of its room, or how to list that room. */
export async function templateHint(session: MatrixSession, reference: string): Promise<string> {
  const { room, server } = parseStateRef(reference);
  const place = reference.slice(0, reference.lastIndexOf(":"));
  try {
    const state = await session.getRoomState(await roomOf(session, room, server ?? serverOf(session.userId)));
    const known = state.filter(({ type, content }) => type === eventTypes.template && !isCleared(content));
    return instead(
      reference,
      known.map(({ stateKey }) => `${place}:${stateKey}`),
      {
        are: "templates",
        list: `bureau template list ${place}`,
        none: `bureau template publish ${reference} --file PATH`,
      },
    );
  } catch (error) {
    if (error instanceof BureauError && error.code === "not-found") return error.hint;
    throw error;
  }
}

/** Refuses a misspelt field, which every reader would ignore. `what` names the template. */
export function refuseUnknownFields(content: Readonly<Record<string, unknown>>, what: string): void {
  const unknown = Object.keys(content).filter((key) => !Object.hasOwn(TemplateSchema.entries, key));
  if (unknown.length > 0)
    throw new BureauError("invalid-input", `Unknown fields in ${what}: ${unknown.join(", ")}`, {
      hint: `known fields: ${Object.keys(TemplateSchema.entries).join(", ")}`,
    });
}
