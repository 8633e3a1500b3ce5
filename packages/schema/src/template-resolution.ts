/**
 * Resolves a template reference: every parent is resolved separately, parents are merged left to right, the child last
 * (wire facts, section 3.5). Pure: the caller's `lookup` finds templates.
 */
import { formatStateRef, parseStateRef, RefError } from "./refs.ts";
import { mergeTemplates, type Template } from "./template.ts";

/** The result of a lookup: the template's content, or why there is none. */
export type TemplateLookup = (
  reference: string,
) => { readonly template: Template } | { readonly problem: string };

export type Resolution =
  | { readonly ok: true; readonly template: Template; readonly lineage: readonly string[] }
  | { readonly ok: false; readonly problem: string };

/** Levels of inheritance: more than a person writes, few enough to stay cheap. */
const DEPTH_MAX = 32;

/** Resolves `reference`; `lineage` lists every template that contributes, parents first, each once. */
export function resolveTemplate(reference: string, lookup: TemplateLookup): Resolution {
  return resolveBelow(reference, lookup, []);
}

function resolveBelow(reference: string, lookup: TemplateLookup, path: readonly string[]): Resolution {
  let canonical: string;
  try {
    canonical = formatStateRef(parseStateRef(reference));
  } catch (error) {
    return { ok: false, problem: error instanceof RefError ? error.message : String(error) };
  }
  if (path.includes(canonical))
    return {
      ok: false,
      problem: `template "${canonical}" inherits from itself: ${[...path, canonical].join(" → ")}`,
    };
  if (path.length >= DEPTH_MAX)
    return { ok: false, problem: `template "${path[0]}" inherits through more than ${DEPTH_MAX} levels` };
  const found = lookup(canonical);
  if ("problem" in found) return { ok: false, problem: found.problem };
  let merged: Template = {};
  const lineage: string[] = [];
  for (const parent of found.template.inherits ?? []) {
    const resolved = resolveBelow(parent, lookup, [...path, canonical]);
    if (!resolved.ok) return resolved;
    merged = mergeTemplates(merged, resolved.template);
    lineage.push(...resolved.lineage.filter((name) => !lineage.includes(name)));
  }
  return { ok: true, template: mergeTemplates(merged, found.template), lineage: [...lineage, canonical] };
}

/** Fetches every template that `reference` needs; returns them as a lookup for {@link resolveTemplate}. */
export async function gatherTemplates(
  reference: string,
  fetch: (reference: string) => Promise<{ readonly template: Template } | { readonly problem: string }>,
): Promise<TemplateLookup> {
  const known = new Map<string, Awaited<ReturnType<typeof fetch>>>();
  const pending = [reference];
  while (true) {
    const next = pending.pop();
    if (next === undefined) break;
    let canonical: string;
    try {
      canonical = formatStateRef(parseStateRef(next));
    } catch {
      continue;
    }
    if (known.has(canonical)) continue;
    const found = await fetch(canonical);
    known.set(canonical, found);
    if ("template" in found) pending.push(...(found.template.inherits ?? []));
  }
  return (wanted) => known.get(wanted) ?? { problem: `there is no template "${wanted}"` };
}
