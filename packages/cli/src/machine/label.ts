/** `bureau machine label`: sets and shows labels, by which machines are selected. */
import { setLabels } from "@bureau/control/machines/labels";
import { takeTurn } from "@bureau/os/turn";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { parseLabel } from "../command/key-value.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, machinePositional, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([
  machinePositional,
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
  const editor = { session: openSession(invocation), takeTurn };
  const after = await setLabels(editor, machine, labels);
  if (invocation.flags.json) terminal.json({ machine, labels: after });
  else if (Object.keys(after).length === 0) terminal.print(`${machine} has no labels`);
  else for (const [key, value] of Object.entries(after)) terminal.print(`${key}=${value}`);
}
