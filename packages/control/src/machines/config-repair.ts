/** What a machine cannot read in its configuration: finds it, and removes it. */
import type { StateContent } from "@bureau/matrix/edit-state";
import type { MatrixSession } from "@bureau/matrix/session";
import {
  MachineConfigPageSchema,
  MachineConfigSchema,
  PrincipalAssignmentSchema,
} from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import { parseEventId } from "@bureau/schema/refs";
import type * as v from "valibot";
import type { Editor } from "../editor.ts";
import { type ConfigPart, type ConfigPlace, isPage, readConfigParts } from "./config-parts.ts";

/** One part that cannot be read. */
export type ConfigFault = {
  /** `default_policy`, `bureau_version`, `principals`, or `principals.N` for one entry; in a page `page 1: principals.N`. */
  readonly field: string;
  readonly fault: string;
};

/** What the machine cannot read in `machine_config` or in a page, in order; fields as in the event itself. */
function faultsOf({ at, content }: ConfigPart): ConfigFault[] {
  const fields: Readonly<Record<string, v.GenericSchema>> = (
    isPage(at) ? MachineConfigPageSchema : MachineConfigSchema
  ).entries;
  const frame = Object.entries(fields).flatMap(([field, schema]) => faultOf(field, schema, content[field]));
  const { principals } = content;
  if (!Array.isArray(principals)) return frame;
  const entries = principals.flatMap((entry, index) =>
    faultOf(`principals.${index}`, PrincipalAssignmentSchema, entry),
  );
  return [...frame, ...entries];
}

function faultOf(field: string, schema: v.GenericSchema, value: unknown): ConfigFault[] {
  try {
    parse(schema, value, field);
    return [];
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return [{ field, fault: error.faults.join("; ") }];
  }
}

/** Removes fields that cannot be read. Replaces an invalid list of assignments with `lastList`. */
function withoutFaults(
  content: StateContent,
  faults: readonly ConfigFault[],
  lastList: readonly unknown[],
): StateContent {
  const faulty = new Set(faults.map(({ field }) => field));
  const { principals } = content;
  const kept = Array.isArray(principals)
    ? principals.filter((_, index) => !faulty.has(`principals.${index}`))
    : faulty.has("principals")
      ? lastList
      : [];
  const fields = Object.entries(content).filter(([name]) => !faulty.has(name));
  return { ...Object.fromEntries(fields), principals: kept };
}

/** The faults of `machine_config`, then those of its pages. */
export async function readConfigFaults(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<readonly ConfigFault[]> {
  return (await readConfigParts(session, place)).flatMap((part) => named(part, faultsOf(part)));
}

/** Faults of a page name the page. */
const named = ({ at }: ConfigPart, faults: readonly ConfigFault[]): readonly ConfigFault[] =>
  isPage(at) ? faults.map(({ field, fault }) => ({ field: `page ${at.key}: ${field}`, fault })) : faults;

/** Removes what a machine cannot read from its configuration and its pages. Returns the faults. */
export async function repairConfig(
  { session, takeTurn }: Editor,
  place: ConfigPlace,
): Promise<readonly ConfigFault[]> {
  using _turn = await takeTurn();
  const found: ConfigFault[] = [];
  for (const part of await readConfigParts(session, place)) {
    const { at, content } = part;
    const faults = faultsOf(part);
    if (faults.length === 0) continue;
    found.push(...named(part, faults));
    const isListLost = faults.some(({ field }) => field === "principals");
    const lastList = isListLost ? await lastAssignmentList(session, part) : [];
    await session.putState(at.room, at.type, at.key, withoutFaults(content, faults, lastList));
  }
  return found;
}

/** Versions of a configuration that are searched for the last list of assignments. */
const VERSIONS_MAX = 20;

/** The newest list of assignments in the event's history; empty when none is found. */
async function lastAssignmentList(
  session: MatrixSession,
  { at, eventId }: ConfigPart,
): Promise<readonly unknown[]> {
  let id = eventId;
  for (let looked = 0; id !== undefined && looked < VERSIONS_MAX; looked++) {
    const version = await session.getEvent(at.room, parseEventId(id));
    if (version === undefined) return [];
    const { principals } = version.content;
    const event = { ...version, type: at.type, stateKey: at.key };
    if (Array.isArray(principals) && (await session.counts(at.room, event))) return principals;
    id = version.replaces;
  }
  return [];
}
