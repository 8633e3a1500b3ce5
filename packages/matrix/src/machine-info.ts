/**
 * A machine's facts in its fleet's machine room: the machine writes its hardware and versions, operators write its labels,
 * and neither undoes the other's writes.
 */
import { eventTypes, MachineInfoSchema } from "@bureau/schema/events";
import { type RoomId, stateKeyOf, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import {
  applyFields,
  type EditingSession,
  editState,
  type Fields,
  fieldDifference,
  type StateContent,
} from "./edit-state.ts";

/** Fields of the event, labels apart, and labels by name; undefined removes. */
export type MachineInfoChange = { readonly fields?: Fields; readonly labels?: Fields };

const Labels = v.fallback(v.object({ labels: MachineInfoSchema.entries.labels }), {});
const none: Fields = new Map();

/** Malformed labels count as no labels. */
export const labelsOf = (content: unknown): Readonly<Record<string, string>> =>
  v.parse(Labels, content).labels ?? {};

function apply(content: StateContent, { fields = none, labels = none }: MachineInfoChange): StateContent {
  const all = applyFields(labelsOf(content), labels);
  return applyFields(
    content,
    new Map([...fields, ["labels", Object.keys(all).length > 0 ? all : undefined]]),
  );
}

function difference(before: StateContent, after: StateContent): MachineInfoChange {
  const fields = new Map(fieldDifference(before, after));
  fields.delete("labels");
  return { fields, labels: fieldDifference(labelsOf(before), labelsOf(after)) };
}

/** @throws BureauError `conflict` when another user keeps writing */
export const editMachineInfo = (
  session: EditingSession,
  room: RoomId,
  machine: UserId,
  change: MachineInfoChange,
) =>
  editState(session, { room, type: eventTypes.machineInfo, key: stateKeyOf(machine) }, change, {
    apply,
    difference,
  });
