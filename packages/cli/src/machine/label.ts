/** `bureau machine label`: sets and shows labels, by which machines are selected. */

import { configPlace } from "@bureau/control/machines/machine-config";
import { roomOf } from "@bureau/control/rooms/places";
import { BureauError } from "@bureau/kit/errors";
import type { StateContent } from "@bureau/matrix/edit-state";
import { editMachineInfo, labelsOf } from "@bureau/matrix/machine-info";
import { takeTurn } from "@bureau/os/turn";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { fleetOf, rooms, serverOf, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { parseLabel } from "../command/key-value.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([
  { name: "machine", summary: "Its name in the fleet, or full localpart" },
  { name: "label", summary: "KEY=VALUE, or KEY= to remove it", optional: true, rest: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Set or show the labels of a machine, by which commands select machines",
  details:
    "Labels are KEY=VALUE; KEY= removes one. Without labels, shows those of the machine. They select machines for\nbureau rollout start --label, and persist across restarts of the machine.",
  positionals,
  flags,
  examples: ["bureau machine label gpu-box gpu=a100 ring=canary", "bureau machine label gpu-box ring="],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal, args } = invocation;
  const machine = machineOf(invocation, args.machine);
  const typed = args.label.map((one) => parseLabel(one, "Label"));
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
  if (invocation.flags.json) terminal.json({ machine, labels: after });
  else if (Object.keys(after).length === 0) terminal.print(`${machine} has no labels`);
  else for (const [key, value] of Object.entries(after)) terminal.print(`${key}=${value}`);
}
