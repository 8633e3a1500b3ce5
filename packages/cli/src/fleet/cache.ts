/** `bureau fleet cache`: where the machines of a fleet fetch store paths from. */

import { roomOfFleet } from "@bureau/control/rooms/places";
import { systemHost } from "@bureau/os/layout";
import { eventTypes, type FleetCache, FleetCacheSchema } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import { parseFleet } from "@bureau/schema/refs";
import * as v from "valibot";
import { booleanFlag, type Invocation, listFlag, stringFlag, UsageError } from "../command/command.ts";
import { openSession } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const fleet = parseFleet(invocation.args[0] ?? "");
  const session = openSession(invocation);
  const room = await roomOfFleet(session, fleet);
  const content = await session.getState(room, eventTypes.fleetCache, "");
  const known = v.safeParse(FleetCacheSchema, content);
  const before = known.success ? known.output : undefined;
  const after = changed(invocation, before);
  if (after !== undefined) await session.putState(room, eventTypes.fleetCache, "", after);
  const shown = after ?? before;
  if (booleanFlag(invocation, "json")) terminal.json({ fleet, fleet_cache: shown ?? null });
  else if (shown === undefined) terminal.print(`${fleet} has no cache`);
  else {
    terminal.print(shown.url);
    for (const key of shown.public_keys) terminal.print(`  ${key}`);
  }
  if (after !== undefined)
    terminal.say(
      `\n  → sudo ${systemHost.command} machine doctor --fix, on each machine, makes its Nix use and trust it`,
    );
}

/** What it is to be; undefined when it is only looked at. @throws UsageError */
function changed(invocation: Invocation, before: FleetCache | undefined): FleetCache | undefined {
  const keys = listFlag(invocation, "public-key");
  const given = {
    url: stringFlag(invocation, "url"),
    name: stringFlag(invocation, "name"),
    public_keys: keys.length > 0 ? keys : undefined,
    compose_template: stringFlag(invocation, "compose-template"),
    default_system: stringFlag(invocation, "default-system"),
  };
  const changes = Object.entries(given).filter(([, value]) => value !== undefined);
  if (changes.length === 0) return undefined;
  try {
    return parse(FleetCacheSchema, { ...before, ...Object.fromEntries(changes) }, "cache");
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new UsageError(error.message, "--url https://cache.example.org --public-key NAME:BASE64");
  }
}
