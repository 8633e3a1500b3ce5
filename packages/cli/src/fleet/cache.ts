/** `bureau fleet cache`: the Nix binary cache of a fleet's machines. */
import { changeFleetCache, type FleetCacheChange, readFleetCache } from "@bureau/control/rooms/fleet-cache";
import { systemHost } from "@bureau/os/layout";
import { InputError } from "@bureau/schema/parse";
import { parseFleet } from "@bureau/schema/refs";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { openSession } from "../command/operator.ts";
import { fleetPositional, jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  url: { type: "string", value: "URL", summary: "Address of the cache" },
  "public-key": {
    type: "string",
    value: "NAME:BASE64",
    multiple: true,
    summary: "A key whose signatures machines trust; replaces the previous keys",
  },
  name: { type: "string", value: "NAME", summary: "Name of the cache on its server (Attic)" },
  "compose-template": {
    type: "string",
    value: "REF",
    summary: "Template that builds environments for it",
  },
  "default-system": { type: "string", value: "SYSTEM", summary: "Platform that environments are built for" },
});
const positionals = definePositionals([fleetPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show or set the Nix binary cache that the fleet's machines fetch from",
  details:
    "Without flags, shows it. Doctor configures each machine's Nix to use the cache and to trust its keys.",
  positionals,
  flags,
  examples: [
    "bureau fleet cache bureau/fleet/prod",
    "bureau fleet cache bureau/fleet/prod --url http://cache.internal:8080 --public-key prod-1:s0XDn…=",
  ],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const fleet = parseFleet(invocation.args.fleet);
  const session = openSession(invocation);
  const change = changeOf(invocation);
  const shown =
    change === undefined
      ? await readFleetCache(session, fleet)
      : await changeFleetCache(session, fleet, change).catch(usageError);
  if (invocation.flags.json) terminal.json({ fleet, fleet_cache: shown ?? null });
  else if (shown === undefined) terminal.print(`${fleet} has no cache`);
  else {
    terminal.print(shown.url);
    for (const key of shown.public_keys) terminal.print(`  ${key}`);
  }
  if (change !== undefined)
    terminal.say(
      `\n  → sudo ${systemHost.command} machine doctor --fix, on each machine, configures its Nix to use and trust it`,
    );
}

/** The fields to set; undefined when the cache is only shown. */
function changeOf({ flags }: Asked): FleetCacheChange | undefined {
  const keys = flags["public-key"];
  const change = {
    url: flags.url,
    name: flags.name,
    public_keys: keys.length > 0 ? keys : undefined,
    compose_template: flags["compose-template"],
    default_system: flags["default-system"],
  };
  return Object.values(change).every((value) => value === undefined) ? undefined : change;
}

function usageError(error: unknown): never {
  if (!(error instanceof InputError)) throw error;
  throw new UsageError(error.message, "--url https://cache.example.org --public-key NAME:BASE64");
}
