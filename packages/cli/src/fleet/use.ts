/** `bureau fleet use`: sets the default fleet of a person's commands, on a host that has not joined a fleet. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { BureauError } from "@bureau/kit/errors";
import { writeDurably } from "@bureau/os/durable-file";
import { fleetOf, parseFleet } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { fleetFile, openSession, thisMachine } from "../command/operator.ts";
import { fleetPositional, jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
const positionals = definePositionals([fleetPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Set the default fleet, on a host that has not joined a fleet",
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
    throw new BureauError(
      "conflict",
      `The default fleet on this host is ${fleetOf(here)}, because the host is ${here}`,
      {
        hint: `--fleet ${fleet} for a single command`,
      },
    );
  await roomOfFleet(openSession(invocation), fleet);
  const file = fleetFile(invocation);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeDurably(file, `${fleet}\n`, 0o600);
  if (invocation.flags.json) terminal.json({ fleet, file });
  else terminal.say(`The default fleet is ${fleet}; stored in ${file}`);
}
