/** `bureau fleet use`: which fleet a person's commands are about, on a host that is itself no machine of one. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { BureauError } from "@bureau/kit/errors";
import { writeDurably } from "@bureau/os/durable-file";
import { fleetOf, parseFleet } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { fleetFile, openSession, thisMachine } from "../command/operator.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
const positionals = definePositionals([{ name: "fleet", summary: "NAMESPACE/fleet/NAME" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Choose the fleet that commands without --fleet are about, on a host that is no machine of one",
  positionals,
  flags,
  examples: ["bureau fleet use bureau/fleet/prod"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const fleet = parseFleet(invocation.args.fleet);
  const here = thisMachine(invocation);
  if (here !== undefined)
    throw new BureauError("conflict", `Commands here are about ${fleetOf(here)}: this host is ${here}`, {
      hint: `--fleet ${fleet} for a single command`,
    });
  await roomOfFleet(openSession(invocation), fleet);
  const file = fleetFile(invocation);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeDurably(file, `${fleet}\n`, 0o600);
  if (invocation.flags.json) terminal.json({ fleet, file });
  else terminal.say(`Commands without --fleet are about ${fleet}; that is kept in ${file}`);
}
