/** `bureau fleet list`: the fleets of a namespace. */
import { listMachines } from "@bureau/control/machines/list-machines";
import { listFleets } from "@bureau/control/rooms/places";
import { parseNamespace } from "@bureau/schema/refs";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { namespaceOfInvocation, openSession } from "../command/operator.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  namespace: { type: "string", value: "NAME", summary: "The namespace (default: this machine's)" },
});
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "List the fleets of a namespace",
  flags,
  examples: ["bureau fleet list"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const typed = invocation.flags.namespace;
  const namespace = typed === undefined ? namespaceOfInvocation(invocation) : parseNamespace(typed);
  const session = openSession(invocation);
  const fleets = await Promise.all(
    (await listFleets(session, namespace)).map(async ({ fleet, room }) => ({
      fleet,
      room_id: room,
      machines: (await listMachines(session, fleet)).length,
    })),
  );
  if (invocation.flags.json) terminal.json({ fleets });
  else
    terminal.table(
      ["FLEET", "MACHINES"],
      fleets.map(({ fleet, machines }) => [fleet, String(machines)]),
    );
}
