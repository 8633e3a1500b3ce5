/**
 * Resolves an assigned template and the extra ones on top of it to one template, from the rooms of a snapshot. `schema`
 * merges them; this module finds each, and decides whether a missing one may still appear.
 *
 * Principals share templates, and templates change seldom. So a result is kept with every template that it was made of,
 * and holds while each of them is the same.
 */
import type { StateEvent } from "@bureau/matrix/event";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import { aliasOf, parseStateRef, type RoomAlias } from "@bureau/schema/refs";
import { mergeTemplates, type Template, TemplateSchema } from "@bureau/schema/template";
import { resolveTemplate, type TemplateLookup } from "@bureau/schema/template-resolution";
import { Memo } from "./memo.ts";
import type { Place, RoomLookup, Snapshot } from "./snapshot.ts";

/** Templates read for one principal: parents that share parents would otherwise cost exponential time. */
const TEMPLATES_MAX = 200;

export type TemplateOutcome =
  | { readonly kind: "resolved"; readonly template: Template }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "unresolved"; readonly reason: string };

type Found = { readonly template: Template } | { readonly problem: string; readonly later: boolean };
type Find = (reference: string) => Found;
type Resolved = { readonly outcome: TemplateOutcome; readonly parts: ReadonlyMap<string, Found> };

/** Resolves `reference` (may be empty) with `extras` on top. The same object as before while its templates are the same. */
export type ResolveTemplate = (reference: string, extras: readonly string[]) => TemplateOutcome;

export class TemplateResolver {
  readonly #place: Place;
  readonly #found = new Memo<string, Found>();
  #last = new Map<string, Resolved>();
  #merged = 0;

  constructor(place: Place) {
    this.#place = place;
  }

  /** How often templates were merged. */
  get merged(): number {
    return this.#merged;
  }

  /** One round over a snapshot: keeps what `act` asks for. Adds every room it needs to `wanted`. */
  round<Result>(
    snapshot: Snapshot,
    wanted: Set<RoomAlias>,
    act: (resolve: ResolveTemplate) => Result,
  ): Result {
    const round = new Map<string, Resolved>();
    const find: Find = (name) => this.#find(name, snapshot, wanted);
    const result = act((reference, extras) => {
      const key = JSON.stringify([reference, extras]);
      const known = round.get(key) ?? this.#resolve(this.#last.get(key), reference, extras, find);
      round.set(key, known);
      return known.outcome;
    });
    this.#last = round;
    this.#found.endRound();
    return result;
  }

  #resolve(before: Resolved | undefined, reference: string, extras: readonly string[], find: Find): Resolved {
    if (before !== undefined && [...before.parts].every(([name, found]) => find(name) === found))
      return before;
    this.#merged++;
    const parts = new Map<string, Found>();
    const outcome = resolveLayers(reference, extras, (name) => {
      const found = find(name);
      parts.set(name, found);
      return found;
    });
    return { outcome, parts };
  }

  #find(reference: string, { directory, states }: Snapshot, wanted: Set<RoomAlias>): Found {
    const ref = parseStateRef(reference);
    const alias = aliasOf(ref.room, ref.server ?? this.#place.server);
    wanted.add(alias);
    const lookup = directory.lookup(alias);
    const room = lookup.kind === "joined" ? states.room(lookup.room) : undefined;
    const inputs = {
      reference,
      alias,
      missing: missingBecause(lookup),
      isSynced: room !== undefined,
      event: room?.get(eventTypes.template, ref.name),
    };
    return this.#found.of(reference, inputs, readTemplate);
  }
}

const missingBecause = (lookup: RoomLookup): string | undefined =>
  lookup.kind === "missing" ? lookup.reason : undefined;

function readTemplate(read: {
  readonly reference: string;
  readonly alias: RoomAlias;
  readonly missing: string | undefined;
  readonly isSynced: boolean;
  readonly event: StateEvent | undefined;
}): Found {
  const { reference, alias, missing, isSynced, event } = read;
  if (missing !== undefined) return { problem: missing, later: false };
  if (!isSynced) return { problem: `looking for the room ${alias}`, later: true };
  if (event === undefined || isCleared(event.content))
    return { problem: `there is no template "${parseStateRef(reference).name}" in ${alias}`, later: false };
  try {
    return { template: parse(TemplateSchema, event.content, `template "${reference}"`) };
  } catch (error) {
    if (error instanceof InputError) return { problem: error.message, later: false };
    throw error;
  }
}

function resolveLayers(reference: string, extras: readonly string[], find: Find): TemplateOutcome {
  let looked = 0;
  let later = false;
  const lookup: TemplateLookup = (name) => {
    if (++looked > TEMPLATES_MAX) return { problem: `it needs more than ${TEMPLATES_MAX} templates` };
    const found = find(name);
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
