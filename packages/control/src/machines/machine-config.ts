/**
 * A machine's desired state, edited by operators. Entries that cannot be read are written back unchanged. Writers of one
 * user on one host take turns ({@link Editor}); edits of others are seen when the event is written (matrix/edit-state).
 */
import { BureauError } from "@bureau/kit/errors";
import {
  applyFields,
  type Edited,
  editState,
  type Fields,
  fieldDifference,
  type StateContent,
} from "@bureau/matrix/edit-state";
import type { MatrixSession } from "@bureau/matrix/session";
import {
  type BureauVersion,
  BureauVersionSchema,
  eventTypes,
  isCleared,
  MachineConfigSchema,
  type PrincipalAssignment,
  PrincipalAssignmentSchema,
} from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import {
  type MachineLocalpart,
  parseEventId,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import * as v from "valibot";
import type { Editor } from "../editor.ts";
import { roomOf } from "../rooms/places.ts";

export type ConfigPlace = { readonly room: RoomId; readonly key: string };

/** Where a machine's desired state is written. @throws BureauError `not-found` for an unknown machine */
export async function configPlace(session: MatrixSession, machine: MachineLocalpart): Promise<ConfigPlace> {
  const server = serverOf(session.userId);
  return { room: await roomOf(session, rooms.config(machine)), key: stateKeyOf(userIdOf(machine, server)) };
}

/** The valid assignments of a machine; `unreadable` counts the others. */
export async function readAssignments(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<{ assignments: PrincipalAssignment[]; unreadable: number }> {
  const content = await session.getState(place.room, eventTypes.machineConfig, place.key);
  return assignmentsIn((content ?? {}) as StateContent);
}

function assignmentsIn(content: StateContent): { assignments: PrincipalAssignment[]; unreadable: number } {
  const entries = entriesOf(content);
  const assignments = entries.flatMap((entry) => {
    const parsed = v.safeParse(PrincipalAssignmentSchema, entry);
    return parsed.success ? [parsed.output] : [];
  });
  return { assignments, unreadable: entries.length - assignments.length };
}

/** The assignments that a cleared configuration had before; empty when it is not cleared. */
export async function readClearedAssignments(
  session: MatrixSession,
  { room, key }: ConfigPlace,
): Promise<PrincipalAssignment[]> {
  const event = await session.stateEvent(room, eventTypes.machineConfig, key);
  if (event === undefined || !isCleared(event.content)) return [];
  const replaces = (await session.getEvent(room, parseEventId(event.eventId)))?.replaces;
  const before = replaces === undefined ? undefined : await session.getEvent(room, parseEventId(replaces));
  if (before === undefined || !(await session.counts(room, { ...event, ...before }))) return [];
  return assignmentsIn(before.content).assignments;
}

/** The build that a machine should run; undefined when none was requested, or the request cannot be read. */
export async function readDesiredVersion(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<BureauVersion | undefined> {
  const content = await session.getState(place.room, eventTypes.machineConfig, place.key);
  const parsed = v.safeParse(v.object({ bureau_version: BureauVersionSchema }), content);
  return parsed.success ? parsed.output.bureau_version : undefined;
}

/** Adds or replaces (`assignment`) or removes (undefined) the entry of one principal. */
export const editAssignment = (
  editor: Editor,
  place: ConfigPlace,
  principal: UserId,
  assignment: PrincipalAssignment | undefined,
): Promise<Edited> =>
  editConfig(editor, place, { principals: new Map([[principal, assignment]]), fields: new Map() });

/**
 * Writes which build a machine should run. Of two requests at the same moment, the first one stays.
 * @throws BureauError `conflict` when the request that stays is another one
 */
export async function editDesiredVersion(
  editor: Editor,
  place: ConfigPlace,
  version: BureauVersion,
): Promise<void> {
  await editConfig(editor, place, { principals: new Map(), fields: new Map([["bureau_version", version]]) });
  const stands = await readDesiredVersion(editor.session, place);
  if (stands?.request_id !== version.request_id)
    throw new BureauError(
      "conflict",
      `${stands?.requested_by ?? "Another operator"} requested "${stands?.host_environment_path ?? "another build"}" at the same moment`,
      { hint: "bureau machine show shows its outcome" },
    );
}

/** What changes of a configuration: principals' entries, and fields beside them. */
type ConfigChange = { readonly principals: Entries; readonly fields: Fields };

async function editConfig(
  { session, takeTurn }: Editor,
  { room, key }: ConfigPlace,
  change: ConfigChange,
): Promise<Edited> {
  using _turn = await takeTurn();
  const place = { room, type: eventTypes.machineConfig, key };
  return await editState(session, place, change, { apply, difference });
}

/** An edit of assignments writes all other fields back unchanged, also invalid ones. */
const entriesOf = (content: StateContent): readonly unknown[] => {
  const parsed = v.safeParse(v.object({ principals: MachineConfigSchema.entries.principals }), content);
  if (parsed.success) return parsed.output.principals;
  throw new BureauError(
    "invalid-input",
    `The assignments in ${eventTypes.machineConfig} cannot be read: "principals" is not a list`,
    { hint: "bureau machine config MACHINE shows the faults; with --repair it restores the last list" },
  );
};

/** One part that cannot be read. */
export type ConfigFault = {
  /** `default_policy`, `bureau_version`, `principals`, or `principals.N` for one entry. */
  readonly field: string;
  readonly fault: string;
};

/** The faults of a configuration that the machine cannot read, in order. */
export function configFaults(content: StateContent): ConfigFault[] {
  const frame = Object.entries(MachineConfigSchema.entries).flatMap(([field, schema]) =>
    faultOf(field, schema, content[field]),
  );
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
function withoutFaults(content: StateContent, lastList: readonly unknown[]): StateContent {
  const faulty = new Set(configFaults(content).map(({ field }) => field));
  const { principals } = content;
  const kept = Array.isArray(principals)
    ? principals.filter((_, index) => !faulty.has(`principals.${index}`))
    : faulty.has("principals")
      ? lastList
      : [];
  const fields = Object.entries(content).filter(([name]) => !faulty.has(name));
  return { ...Object.fromEntries(fields), principals: kept };
}

/** Removes fields of a machine's configuration that it cannot read. Returns their faults. */
export async function repairConfig(
  { session, takeTurn }: Editor,
  { room, key }: ConfigPlace,
): Promise<readonly ConfigFault[]> {
  using _turn = await takeTurn();
  const content = ((await session.getState(room, eventTypes.machineConfig, key)) ?? {}) as StateContent;
  const faults = configFaults(content);
  if (faults.length === 0) return faults;
  const isListLost = faults.some(({ field }) => field === "principals");
  const lastList = isListLost ? await lastAssignmentList(session, { room, key }) : [];
  await session.putState(room, eventTypes.machineConfig, key, withoutFaults(content, lastList));
  return faults;
}

/** Versions of a configuration that are searched for the last list of assignments. */
const VERSIONS_MAX = 20;

/** The newest list of assignments in the event's history; empty when none is found. */
async function lastAssignmentList(
  session: MatrixSession,
  { room, key }: ConfigPlace,
): Promise<readonly unknown[]> {
  const event = await session.stateEvent(room, eventTypes.machineConfig, key);
  let id: string | undefined = event?.eventId;
  for (let looked = 0; event !== undefined && id !== undefined && looked < VERSIONS_MAX; looked++) {
    const version = await session.getEvent(room, parseEventId(id));
    if (version === undefined) return [];
    const { principals } = version.content;
    if (Array.isArray(principals) && (await session.counts(room, { ...event, ...version })))
      return principals;
    id = version.replaces;
  }
  return [];
}

const apply = (content: StateContent, { principals, fields }: ConfigChange): StateContent => ({
  ...applyFields(content, fields),
  principals: applyEntries(entriesOf(content), principals),
});

function difference(before: StateContent, after: StateContent): ConfigChange {
  const fields = new Map(fieldDifference(before, after));
  fields.delete("principals");
  return { principals: entryDifference(entriesOf(before), entriesOf(after)), fields };
}

/** Principal → its new entry, or undefined to remove it. */
type Entries = ReadonlyMap<string, unknown>;

const nameOf = (entry: unknown): string | undefined =>
  typeof entry === "object" && entry !== null && "principal" in entry && typeof entry.principal === "string"
    ? entry.principal
    : undefined;

/** Entries in their order, edited ones in place, new ones last. */
function applyEntries(entries: readonly unknown[], edit: Entries): unknown[] {
  const seen = new Set(entries.map(nameOf));
  const kept = entries.flatMap((entry) => {
    const name = nameOf(entry);
    if (name === undefined || !edit.has(name)) return [entry];
    const changed = edit.get(name);
    return changed === undefined ? [] : [changed];
  });
  const added = [...edit]
    .filter(([name, entry]) => entry !== undefined && !seen.has(name))
    .map(([, entry]) => entry);
  return [...kept, ...added];
}

/** The entries that differ between `before` and `after`. */
function entryDifference(before: readonly unknown[], after: readonly unknown[]): Entries {
  const index = (entries: readonly unknown[]): Map<string, unknown> =>
    new Map(entries.flatMap((entry) => (nameOf(entry) === undefined ? [] : [[nameOf(entry) ?? "", entry]])));
  const [old, now] = [index(before), index(after)];
  const changed = [...now].filter(([name, entry]) => JSON.stringify(old.get(name)) !== JSON.stringify(entry));
  const removed = [...old.keys()]
    .filter((name) => !now.has(name))
    .map((name): [string, unknown] => [name, undefined]);
  return new Map([...changed, ...removed]);
}
