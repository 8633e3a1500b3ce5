/** `bureau machine label`: what operators say of a machine, for choosing among them. */

import { configPlace } from "@bureau/control/machines/machine-config";
import { roomOf } from "@bureau/control/rooms/places";
import { BureauError } from "@bureau/kit/errors";
import type { StateContent } from "@bureau/matrix/edit-state";
import { editMachineInfo, labelsOf } from "@bureau/matrix/machine-info";
import { takeTurn } from "@bureau/os/turn";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { fleetOf, rooms, serverOf, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { parseLabel } from "../command/key-value.ts";
import { machineOf, openSession } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal, args } = invocation;
  const machine = machineOf(invocation, args[0]);
  const typed = args.slice(1).map((one) => parseLabel(one, "Label"));
  const labels = new Map(typed.map(([key, value]) => [key, value === "" ? undefined : value]));
  const session = openSession(invocation);
  await configPlace(session, machine);
  const room = await roomOf(session, rooms.fleetMachines(fleetOf(machine)));
  const user = userIdOf(machine, serverOf(session.userId));
  // Of a machine that was never there labels would be all that is known.
  const content = await session.getState(room, eventTypes.machineInfo, stateKeyOf(user));
  if (isCleared((content ?? {}) as StateContent))
    throw new BureauError("not-found", `The machine "${machine}" has not joined the fleet`, {
      hint: `bureau machine list ${fleetOf(machine)} shows those that have`,
    });
  using _turn = await takeTurn();
  const after = labelsOf((await editMachineInfo(session, room, user, { labels })).content);
  if (booleanFlag(invocation, "json")) terminal.json({ machine, labels: after });
  else if (Object.keys(after).length === 0) terminal.print(`${machine} has no labels`);
  else for (const [key, value] of Object.entries(after)) terminal.print(`${key}=${value}`);
}
