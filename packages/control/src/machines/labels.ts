/** The labels that operators give a machine, to select machines by. */
import { BureauError } from "@bureau/kit/errors";
import type { StateContent } from "@bureau/matrix/edit-state";
import { editMachineInfo, labelsOf } from "@bureau/matrix/machine-info";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { fleetOf, type MachineLocalpart, rooms, serverOf, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import type { Editor } from "../editor.ts";
import { roomOf } from "../rooms/places.ts";
import { configPlace } from "./machine-config.ts";

export type Labels = Readonly<Record<string, string>>;

/**
 * Sets or removes (undefined) labels by key and leaves the others. Returns all labels afterwards.
 * @throws BureauError `not-found` for an unknown machine and for one that has not joined, `conflict` when others keep writing
 */
export async function setLabels(
  { session, takeTurn }: Editor,
  machine: MachineLocalpart,
  labels: ReadonlyMap<string, string | undefined>,
): Promise<Labels> {
  await configPlace(session, machine);
  const room = await roomOf(session, rooms.fleetMachines(fleetOf(machine)));
  const user = userIdOf(machine, serverOf(session.userId));
  // Labels of a machine that never joined would be an event without a machine.
  const content = await session.getState(room, eventTypes.machineInfo, stateKeyOf(user));
  if (isCleared((content ?? {}) as StateContent)) throw notJoined(machine);
  using _turn = await takeTurn();
  return labelsOf((await editMachineInfo(session, room, user, { labels })).content);
}

/** The error for a machine that has no state in its fleet's machine room. */
export const notJoined = (machine: MachineLocalpart): BureauError =>
  new BureauError("not-found", `The machine "${machine}" has not joined the fleet`, {
    hint: `bureau machine list ${fleetOf(machine)} shows those that have`,
  });
