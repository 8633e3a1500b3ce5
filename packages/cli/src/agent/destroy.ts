/** `bureau agent destroy`: stops an agent and removes its assignment and credentials. */
import { destroyPrincipal } from "@bureau/control/principals/principals";
import { systemClock } from "@bureau/kit/clock";
import { takeTurn } from "@bureau/os/turn";
import { principalNameOf, serverOf, userIdOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import {
  accountKeys,
  isHere,
  machineOf,
  openSession,
  principalOf,
  serverAdmin,
} from "../command/operator.ts";
import {
  adminTokenFlag,
  agentPositional,
  jsonFlag,
  machineFlag,
  sessionFlags,
} from "../command/shared-flags.ts";
import { readAbsence } from "../machine/absence.ts";
import { waitUntilGone } from "./agent-report.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  purge: {
    type: "boolean",
    summary: "Also deactivate its Matrix account; the name cannot be used again",
  },
  ...adminTokenFlag,
  "no-wait": { type: "boolean", summary: "Return before the machine has stopped it" },
});
const positionals = definePositionals([agentPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Stop an agent and remove its assignment and credentials",
  positionals,
  flags,
  examples: ["bureau agent destroy demo"],
  run,
});

async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const principal = principalOf(machine, invocation.args.name);
  const purge = invocation.flags.purge;
  const step = terminal.step(`Destroying ${principalNameOf(principal)}`);
  try {
    await destroyPrincipal({
      session,
      takeTurn,
      machine,
      principal,
      ...(purge
        ? {
            purge: { ...accountKeys(invocation), admin: serverAdmin(invocation) },
          }
        : {}),
    });
    const user = userIdOf(principal, serverOf(session.userId));
    const isWaiting = !invocation.flags["no-wait"];
    const here = isHere(invocation, machine);
    if (here && isWaiting) await waitUntilGone(invocation, user, systemClock);
    const away = here ? undefined : await readAbsence(session, machine);
    const ok = away === undefined || !isWaiting;
    const end = ok ? step.done : step.fail;
    end(
      `${principalNameOf(principal)} ${fate(machine, here && isWaiting, away)}${purge ? "; its account is closed" : ""}`,
    );
    if (invocation.flags.json)
      terminal.json({
        ok,
        principal: principalNameOf(principal),
        purged: purge,
        stopped: here && isWaiting,
        ...(away === undefined ? {} : { reason: `${machine} ${away}` }),
      });
    return ok ? 0 : 1;
  } catch (error) {
    step.fail();
    throw error;
  }
}

/** What is known: says that it stopped only after that was observed. */
function fate(machine: string, isSeen: boolean, away: string | undefined): string {
  if (isSeen) return "is gone";
  const taken = `is no longer assigned to ${machine}`;
  return away === undefined
    ? `${taken}, which stops it`
    : `${taken}, which ${away} and stops it when it is back`;
}
