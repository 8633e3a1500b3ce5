/**
 * From a template's name to the template itself: its parents are found in their rooms, each resolved on its own, merged
 * from left to right, and itself put on top. Extra parents go on top of that. Cycles, and more parents than anyone
 * writes by hand, are refused.
 */
import { eventTypes, isCleared } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import {
  aliasOf,
  formatStateRef,
  parseStateRef,
  RefError,
  type RoomAlias,
  type StateRef,
} from "@bureau/schema/refs";
import { mergeTemplates, type Template, TemplateSchema } from "@bureau/schema/template";
import type { Snapshot } from "./snapshot.ts";

/** Templates looked at for one principal; doubling diamonds would otherwise cost exponentially. */
const TEMPLATES_MAX = 200;

export type TemplateResolution =
  | { readonly kind: "resolved"; readonly template: Template }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "unresolved"; readonly reason: string };

/** Stops a resolution; `later` when the same may succeed once a room is known. */
class Unresolvable extends Error {
  constructor(
    message: string,
    readonly later: boolean,
  ) {
    super(message);
  }
}

type Walk = { readonly snapshot: Snapshot; readonly wanted: Set<RoomAlias>; looked: number };

/** Resolves `reference` with `extras` on top. Every room it needs is added to `wanted`. */
export function resolveTemplate(
  reference: string,
  extras: readonly string[],
  snapshot: Snapshot,
  wanted: Set<RoomAlias>,
): TemplateResolution {
  const walk: Walk = { snapshot, wanted, looked: 0 };
  try {
    const layers = [...(reference === "" ? [] : [reference]), ...extras];
    const template = layers
      .map((layer) => load(parseStateRef(layer), [], walk))
      .reduce<Template>((below, above) => mergeTemplates(below, above), {});
    return { kind: "resolved", template };
  } catch (error) {
    if (error instanceof Unresolvable)
      return { kind: error.later ? "unresolved" : "failed", reason: error.message };
    if (error instanceof InputError || error instanceof RefError)
      return { kind: "failed", reason: error.message };
    throw error;
  }
}

function load(ref: StateRef, path: readonly string[], walk: Walk): Template {
  const alias = aliasOf(ref.room, ref.server ?? walk.snapshot.server);
  const key = `${alias} ${ref.name}`;
  const name = formatStateRef(ref);
  if (path.includes(key)) throw new Unresolvable(`Template "${name}" inherits from itself`, false);
  if (++walk.looked > TEMPLATES_MAX)
    throw new Unresolvable(`Template "${name}" inherits from more than ${TEMPLATES_MAX} templates`, false);
  const own = read(alias, ref, name, walk);
  const parents = (own.inherits ?? []).map((parent) => load(parseStateRef(parent), [...path, key], walk));
  const base = parents.reduce<Template>((below, above) => mergeTemplates(below, above), {});
  return mergeTemplates(base, own);
}

function read(alias: RoomAlias, ref: StateRef, name: string, walk: Walk): Template {
  walk.wanted.add(alias);
  const found = walk.snapshot.lookup(alias);
  if (found.kind === "missing") throw new Unresolvable(`Template "${name}": ${found.reason}`, false);
  const room = found.kind === "joined" ? walk.snapshot.states.room(found.room) : undefined;
  if (room === undefined) throw new Unresolvable(`Template "${name}": looking for the room ${alias}`, true);
  const content = room.get(eventTypes.template, ref.name)?.content;
  if (content === undefined || isCleared(content))
    throw new Unresolvable(`Template "${name}" does not exist in ${alias}`, false);
  return parse(TemplateSchema, content, `template "${name}"`);
}
