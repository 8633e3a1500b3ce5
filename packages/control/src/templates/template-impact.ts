/**
 * The principals made from a template: every principal of a fleet whose template, or one in `extra_inherits`, is that one
 * or inherits from it; from the machines' configurations that the session may read. With a draft of the template, also the
 * effect of the change on each, by the rules of the daemon.
 */
import { canonicalJson } from "@bureau/kit/canonical-json";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import type { PrincipalAssignment } from "@bureau/schema/events";
import {
  type FleetLocalpart,
  formatStateRef,
  type MachineLocalpart,
  parseMachine,
  parseStateRef,
  principalNameOf,
  principalOfUser,
  serverOf,
} from "@bureau/schema/refs";
import { sandboxSpecOf } from "@bureau/schema/sandbox-spec";
import { mergeTemplates, type Template } from "@bureau/schema/template";
import { resolveTemplate, type TemplateLookup } from "@bureau/schema/template-resolution";
import type { ConfigPlace } from "../machines/config-parts.ts";
import { listMachinesNow } from "../machines/list-machines.ts";
import { configPlace, readAssignments } from "../machines/machine-config.ts";
import { type Presence, presenceOf } from "../machines/presence.ts";
import { readTemplate, roomsOnce } from "./template-store.ts";

/** Templates read at most for one impact. */
const TEMPLATES_MAX = 1_000;

/**
 * `restart`: it is restarted. `payload`: it gets another payload while it runs. `check`: only its health check changes.
 * `none`: its sandbox stays the same. `stopped`: it does not run. `broken`: its template cannot be resolved.
 */
export type Effect = "restart" | "payload" | "check" | "none" | "stopped" | "broken";

export type Touched = {
  readonly machine: MachineLocalpart;
  /** Principal name. */
  readonly principal: string;
  readonly template: string;
  /** Undefined without a draft. */
  readonly effect: Effect | undefined;
  readonly reason?: string;
  /** A machine that is not online acts when it is back. */
  readonly presence: Presence;
  readonly assignment: PrincipalAssignment;
  readonly place: ConfigPlace;
};

export type Impact = {
  readonly touched: readonly Touched[];
  /** Machines whose configuration could not be read, in whole or in part. */
  readonly unreadable: readonly { readonly machine: string; readonly reason: string }[];
};

export async function templateImpact(
  session: MatrixSession,
  fleet: FleetLocalpart,
  reference: string,
  draft?: Template,
): Promise<Impact> {
  const templates = new TemplateReader(session);
  const target = templates.canonical(reference);
  const touched: Touched[] = [];
  const unreadable: Impact["unreadable"][number][] = [];
  const now = systemClock.now();
  for (const listed of await listMachinesNow(session, fleet)) {
    const machine = parseMachine(listed.name);
    const presence = presenceOf(listed, now);
    const found = await assignmentsOf(session, machine);
    if ("reason" in found) {
      unreadable.push({ machine, reason: found.reason });
      continue;
    }
    const { assignments, place } = found;
    if (found.unreadable > 0)
      unreadable.push({
        machine,
        reason: `${found.unreadable} of its entries cannot be read: bureau machine config ${machine}`,
      });
    for (const assignment of assignments) {
      const closure = await templates.closure(layersOf(assignment));
      if (!closure.has(target)) continue;
      touched.push({
        machine,
        template: assignment.template,
        assignment,
        place,
        presence,
        principal: principalNameOf(principalOfUser(assignment.principal)),
        ...(draft === undefined ? { effect: undefined } : effectOf(assignment, templates, target, draft)),
      });
    }
  }
  return { touched, unreadable };
}

const layersOf = (assignment: PrincipalAssignment): string[] => [
  ...(assignment.template === "" ? [] : [assignment.template]),
  ...(assignment.extra_inherits ?? []),
];

async function assignmentsOf(
  session: MatrixSession,
  machine: MachineLocalpart,
): Promise<(Awaited<ReturnType<typeof readAssignments>> & { place: ConfigPlace }) | { reason: string }> {
  try {
    const place = await configPlace(session, machine);
    return { ...(await readAssignments(session, place)), place };
  } catch (error) {
    if (error instanceof BureauError && (error.code === "not-found" || error.code === "forbidden"))
      return { reason: error.message };
    throw error;
  }
}

function effectOf(
  assignment: PrincipalAssignment,
  templates: TemplateReader,
  target: string,
  draft: Template,
): { readonly effect: Effect; readonly reason?: string } {
  if (!assignment.auto_start) return { effect: "stopped" };
  const lookup = templates.lookup;
  const before = resolveLayers(layersOf(assignment), lookup);
  const after = resolveLayers(layersOf(assignment), (name) =>
    templates.canonical(name) === target ? { template: draft } : lookup(name),
  );
  if ("problem" in after) return { effect: "broken", reason: after.problem };
  if ("problem" in before) return { effect: "restart" };
  const [old, next] = [sandboxSpecOf(before, assignment), sandboxSpecOf(after, assignment)];
  const structure = (spec: typeof old): string => canonicalJson({ ...spec, payload: undefined });
  if (structure(old) !== structure(next)) return { effect: "restart" };
  if (canonicalJson(old.payload) !== canonicalJson(next.payload)) return { effect: "payload" };
  const isSameCheck =
    canonicalJson(before.health_check ?? null) === canonicalJson(after.health_check ?? null);
  return { effect: isSameCheck ? "none" : "check" };
}

function resolveLayers(
  layers: readonly string[],
  lookup: TemplateLookup,
): Template | { readonly problem: string } {
  let merged: Template = {};
  for (const layer of layers) {
    const resolved = resolveTemplate(layer, lookup);
    if (!resolved.ok) return { problem: resolved.problem };
    merged = mergeTemplates(merged, resolved.template);
  }
  return merged;
}

/** Templates by reference, each read once. */
class TemplateReader {
  readonly #session: MatrixSession;
  readonly #find: ReturnType<typeof roomsOnce>;
  readonly #known = new Map<string, Awaited<ReturnType<typeof readTemplate>>>();

  constructor(session: MatrixSession) {
    this.#session = session;
    this.#find = roomsOnce(session);
  }

  /** One name for a template, with or without its server. */
  canonical(reference: string): string {
    const ref = parseStateRef(reference);
    return formatStateRef({ ...ref, server: ref.server ?? serverOf(this.#session.userId) });
  }

  /** What was read so far. */
  readonly lookup: TemplateLookup = (reference) =>
    this.#known.get(this.canonical(reference)) ?? { problem: `"${reference}" was not read` };

  /** The canonical names of these templates and all they inherit from. */
  async closure(references: readonly string[]): Promise<ReadonlySet<string>> {
    const seen = new Set<string>();
    const pending = [...references];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const name = this.canonical(next);
      if (seen.has(name)) continue;
      seen.add(name);
      const found = this.#known.get(name) ?? (await this.#read(name));
      if ("template" in found) pending.push(...(found.template.inherits ?? []));
    }
    return seen;
  }

  async #read(name: string): Promise<Awaited<ReturnType<typeof readTemplate>>> {
    if (this.#known.size >= TEMPLATES_MAX)
      throw new BureauError("too-large", `This fleet uses more than ${TEMPLATES_MAX} templates`);
    const found = await readTemplate(this.#session, name, this.#find);
    this.#known.set(name, found);
    return found;
  }
}
