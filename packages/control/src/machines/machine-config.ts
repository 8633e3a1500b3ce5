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
  readState,
  type StateContent,
  type StatePlace,
} from "@bureau/matrix/edit-state";
import { jsonBytes } from "@bureau/matrix/event-content";
import type { MatrixSession } from "@bureau/matrix/session";
import { assignedUser } from "@bureau/schema/assigned-user";
import { CONFIG_PAGES_MAX } from "@bureau/schema/config-pages";
import {
  type BureauVersion,
  BureauVersionSchema,
  eventTypes,
  type PrincipalAssignment,
  PrincipalAssignmentSchema,
} from "@bureau/schema/events";
import {
  aliasOf,
  type MachineLocalpart,
  parseEventId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { allInOrder } from "../all-in-order.ts";
import type { Editor } from "../editor.ts";
import { roomOf } from "../rooms/places.ts";
import type { RoomSnapshot, StateReader } from "../rooms/room-snapshot.ts";
import {
  ASSIGNMENT_BYTES_MAX,
  allEntries,
  type ConfigPart,
  type ConfigPlace,
  emptyClearedPages,
  entriesOf,
  isClearedPart,
  isPage,
  type NoRoom,
  PART_BYTES_MAX,
  type PartEdit,
  planEdits,
  readConfigParts,
} from "./config-parts.ts";
import { readMachineVersion } from "./machine-version.ts";

/**
 * Where a machine's desired state is written. `snapshot`: finds the room there. @throws BureauError `not-found` for an unknown
 * machine
 */
export async function configPlace(
  session: MatrixSession,
  machine: MachineLocalpart,
  snapshot?: RoomSnapshot,
): Promise<ConfigPlace> {
  const server = serverOf(session.userId);
  const place = rooms.config(machine);
  const room =
    snapshot === undefined ? await roomOf(session, place) : await snapshot.roomOf(aliasOf(place, server));
  return { room, key: stateKeyOf(userIdOf(machine, server)) };
}

/** The valid assignments of a machine; `unreadable` counts the others. */
export async function readAssignments(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<{ assignments: PrincipalAssignment[]; unreadable: number }> {
  return assignmentsIn(allEntries(await readConfigParts(session, place)));
}

function assignmentsIn(entries: readonly unknown[]): {
  assignments: PrincipalAssignment[];
  unreadable: number;
} {
  const assignments = entries.flatMap((entry) => {
    const parsed = v.safeParse(PrincipalAssignmentSchema, entry);
    return parsed.success ? [parsed.output] : [];
  });
  return { assignments, unreadable: entries.length - assignments.length };
}

/** The assignments of each event of a configuration: those it holds, or those it had before it was cleared. */
export async function readLastAssignments(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<PrincipalAssignment[]> {
  const parts = await readConfigParts(session, place);
  const before = await Promise.all(
    parts.map((part) =>
      isClearedPart(part) ? entriesBefore(session, part) : entriesOf(part.content, part.at.type),
    ),
  );
  return assignmentsIn(before.flat()).assignments;
}

async function entriesBefore(
  session: MatrixSession,
  { at, eventId }: ConfigPart,
): Promise<readonly unknown[]> {
  if (eventId === undefined) return [];
  const replaces = (await session.getEvent(at.room, parseEventId(eventId)))?.replaces;
  const before = replaces === undefined ? undefined : await session.getEvent(at.room, parseEventId(replaces));
  if (
    before === undefined ||
    !(await session.counts(at.room, { ...before, type: at.type, stateKey: at.key }))
  )
    return [];
  return entriesOf(before.content, at.type);
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

/**
 * Where an assignment is written, before anything else is made for it.
 * @throws BureauError `too-large` when the machine has no room for it
 */
export async function planAssignment(
  session: StateReader,
  place: ConfigPlace,
  assignment: PrincipalAssignment,
): Promise<readonly PartEdit[]> {
  const parts = await readConfigParts(session, place);
  const { principal } = assignment;
  const plan = planEdits(parts, place, principal, assignment);
  if ("bytes" in plan) throw noRoom(place, principal, plan);
  const target = plan.find(({ entry }) => entry !== undefined);
  const isNewThere = !entriesOf(target?.base?.content ?? {}, target?.at.type).some(
    (one) => assignedUser(one) === principal,
  );
  if (target !== undefined && isPage(target.at) && isNewThere)
    await requirePages(session, place, principal, {
      pages: Number(target.at.key),
      assigned: allEntries(parts).length,
    });
  return plan;
}

/** Whether the events of a plan hold an assignment of that principal already. */
export const isAssignedIn = (plan: readonly PartEdit[], principal: UserId): boolean =>
  plan.some(({ at, base }) =>
    entriesOf(base?.content ?? {}, at.type).some((one) => assignedUser(one) === principal),
  );

/** A machine whose build does not read pages would not run what is in them. */
async function requirePages(
  session: StateReader,
  place: ConfigPlace,
  principal: UserId,
  wanted: { readonly pages: number; readonly assigned: number },
): Promise<void> {
  const version = await readMachineVersion(session, place);
  const known = version?.config_pages ?? 0;
  if (version?.state !== "upgrading" && wanted.pages <= known) return;
  const why =
    known < wanted.pages
      ? `its ${wanted.assigned} agents fill the configuration of a machine whose build reads one event of 64 KiB`
      : "it is being upgraded, and its next build may not read more than one event of 64 KiB";
  throw new BureauError("too-large", `Cannot assign ${principal} to this machine: ${why}`, {
    hint:
      known < wanted.pages
        ? "upgrade it to a build that reads more (bureau machine upgrade), or choose another --machine"
        : "run this again when bureau machine show says that the upgrade is done",
  });
}

function noRoom(place: ConfigPlace, principal: UserId, { bytes, assigned }: NoRoom): BureauError {
  if (bytes > ASSIGNMENT_BYTES_MAX)
    return new BureauError(
      "too-large",
      `Cannot assign ${principal}: its assignment has ${bytes} bytes, and a Matrix event holds 65536`,
      { hint: "make its payload smaller, or put the bulk in a file and give its path" },
    );
  return new BureauError(
    "too-large",
    `Cannot assign ${principal}: the ${assigned} agents of ${place.key} fill its configuration and all ${CONFIG_PAGES_MAX} pages beside it`,
    { hint: "choose another --machine" },
  );
}

/**
 * Writes an assignment by its plan, and before it what `prepare` writes: the machine never reads an assignment that it cannot
 * start. Plans again when other writers have filled the event meanwhile.
 */
export async function writeAssignment(
  { session, takeTurn }: Editor,
  place: ConfigPlace,
  assignment: PrincipalAssignment,
  plan: readonly PartEdit[],
  prepare: () => Promise<void>,
): Promise<Edited> {
  using _turn = await takeTurn();
  const { principal } = assignment;
  // Others may have written since the plan was made.
  const [edits] = await allInOrder([Promise.all(plan.map((edit) => withBase(session, edit))), prepare()]);
  try {
    return await writeEdits(session, principal, edits);
  } catch (error) {
    if (!(error instanceof PartFull)) throw error;
    return await writeEdits(session, principal, await planAssignment(session, place, assignment));
  }
}

const withBase = async (session: MatrixSession, edit: PartEdit): Promise<PartEdit> => ({
  ...edit,
  base: await readState(session, edit.at),
});

/** Adds or replaces (`assignment`) or removes (undefined) the entry of one principal. */
export async function editAssignment(
  { session, takeTurn }: Editor,
  place: ConfigPlace,
  principal: UserId,
  assignment: PrincipalAssignment | undefined,
): Promise<Edited> {
  using _turn = await takeTurn();
  if (assignment !== undefined)
    return await writeEdits(session, principal, await planAssignment(session, place, assignment));
  const plan = planEdits(await readConfigParts(session, place), place, principal, undefined);
  return await writeEdits(session, principal, "bytes" in plan ? [] : plan);
}

/** Other writers filled the event since it was planned. */
class PartFull extends BureauError {
  constructor({ type, key }: StatePlace) {
    super("conflict", `${type} "${key}" was filled by another command at the same moment`, {
      hint: "run this again",
    });
  }
}

async function writeEdits(
  session: MatrixSession,
  principal: UserId,
  edits: readonly PartEdit[],
): Promise<Edited> {
  let done: Edited = { content: {}, written: false };
  for (const { at, base, entry } of edits) {
    if (base !== undefined) await emptyClearedPages(session, at, base);
    const change = { principals: new Map([[principal, entry]]), fields: new Map() };
    const edited = await editState(session, at, change, { apply: applyInto(at), difference }, base);
    // The assignment is written first; what else is removed is not the answer.
    if (!done.written) done = edited;
  }
  return done;
}

/** Keeps an event below its limit, also when others add to it meanwhile. */
const applyInto =
  (at: StatePlace): typeof apply =>
  (content, change) => {
    const changed = apply(content, change);
    if (jsonBytes(changed) > PART_BYTES_MAX && jsonBytes(changed) > jsonBytes(content))
      throw new PartFull(at);
    return changed;
  };

/**
 * Writes which build a machine should run. Of two requests at the same moment, the first one stays.
 * @throws BureauError `conflict` when the request that stays is another one
 */
export async function editDesiredVersion(
  editor: Editor,
  place: ConfigPlace,
  version: BureauVersion,
): Promise<void> {
  await editFields(editor, place, () => new Map([["bureau_version", version]]));
  const stands = await readDesiredVersion(editor.session, place);
  if (stands?.request_id !== version.request_id)
    throw new BureauError(
      "conflict",
      `${stands?.requested_by ?? "Another operator"} requested "${stands?.host_environment_path ?? "another build"}" at the same moment`,
      { hint: "bureau machine show shows its outcome" },
    );
}

/** Writes the default policy that `change` returns; undefined changes nothing. */
export async function editDefaultPolicy(
  editor: Editor,
  place: ConfigPlace,
  change: (policy: unknown) => object | undefined,
): Promise<void> {
  await editFields(editor, place, (content) => {
    const policy = change(content["default_policy"]);
    return policy === undefined ? undefined : new Map([["default_policy", policy]]);
  });
}

/** What changes of a configuration: principals' entries, and fields beside them. */
type ConfigChange = { readonly principals: Entries; readonly fields: Fields };

/** `choose` returns the fields to write; undefined changes nothing. */
async function editFields(
  { session, takeTurn }: Editor,
  place: ConfigPlace,
  choose: (content: StateContent) => Fields | undefined,
): Promise<void> {
  using _turn = await takeTurn();
  const at = { ...place, type: eventTypes.machineConfig };
  const base = await readState(session, at);
  const fields = choose(base.content);
  if (fields === undefined) return;
  await emptyClearedPages(session, at, base);
  await editState(session, at, { principals: new Map(), fields }, { apply, difference }, base);
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

/** Entries in their order, edited ones in place, new ones last. */
function applyEntries(entries: readonly unknown[], edit: Entries): unknown[] {
  const seen = new Set(entries.map(assignedUser));
  const kept = entries.flatMap((entry) => {
    const name = assignedUser(entry);
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
    new Map(
      entries.flatMap((entry) =>
        assignedUser(entry) === undefined ? [] : [[assignedUser(entry) ?? "", entry]],
      ),
    );
  const [old, now] = [index(before), index(after)];
  const changed = [...now].filter(([name, entry]) => JSON.stringify(old.get(name)) !== JSON.stringify(entry));
  const removed = [...old.keys()]
    .filter((name) => !now.has(name))
    .map((name): [string, unknown] => [name, undefined]);
  return new Map([...changed, ...removed]);
}
