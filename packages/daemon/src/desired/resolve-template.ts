/**
 * Resolves an assigned template and the extra ones on top of it to one template, from the rooms of a snapshot. `schema`
 * merges them; this module finds each, and decides whether a missing one may still appear.
 */
import { eventTypes, isCleared } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import { aliasOf, parseStateRef, type RoomAlias } from "@bureau/schema/refs";
import { mergeTemplates, type Template, TemplateSchema } from "@bureau/schema/template";
import { resolveTemplate, type TemplateLookup } from "@bureau/schema/template-resolution";
import type { Snapshot } from "./snapshot.ts";

/** Templates read for one principal: parents that share parents would otherwise cost exponential time. */
const TEMPLATES_MAX = 200;

export type TemplateOutcome =
  | { readonly kind: "resolved"; readonly template: Template }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "unresolved"; readonly reason: string };

/** Resolves `reference` (may be empty) with `extras` on top. Every room it needs is added to `wanted`. */
export function templateOf(
  reference: string,
  extras: readonly string[],
  snapshot: Snapshot,
  wanted: Set<RoomAlias>,
): TemplateOutcome {
  let looked = 0;
  let later = false;
  const lookup: TemplateLookup = (name) => {
    if (++looked > TEMPLATES_MAX) return { problem: `it needs more than ${TEMPLATES_MAX} templates` };
    const found = find(name, snapshot, wanted);
    if ("problem" in found && found.later) later = true;
    return found;
  };
  let template: Template = {};
  for (const layer of [...(reference === "" ? [] : [reference]), ...extras]) {
    const resolved = resolveTemplate(layer, lookup);
    if (!resolved.ok)
      return { kind: later ? "unresolved" : "failed", reason: `Template "${layer}": ${resolved.problem}` };
    template = mergeTemplates(template, resolved.template);
  }
  return { kind: "resolved", template };
}

type Found = { readonly template: Template } | { readonly problem: string; readonly later: boolean };

function find(reference: string, snapshot: Snapshot, wanted: Set<RoomAlias>): Found {
  const ref = parseStateRef(reference);
  const alias = aliasOf(ref.room, ref.server ?? snapshot.server);
  wanted.add(alias);
  const lookup = snapshot.lookup(alias);
  if (lookup.kind === "missing") return { problem: lookup.reason, later: false };
  const room = lookup.kind === "joined" ? snapshot.states.room(lookup.room) : undefined;
  if (room === undefined) return { problem: `looking for the room ${alias}`, later: true };
  const content = room.get(eventTypes.template, ref.name)?.content;
  if (content === undefined || isCleared(content))
    return { problem: `there is no template "${ref.name}" in ${alias}`, later: false };
  try {
    return { template: parse(TemplateSchema, content, `template "${reference}"`) };
  } catch (error) {
    if (error instanceof InputError) return { problem: error.message, later: false };
    throw error;
  }
}
