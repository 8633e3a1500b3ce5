/** `bureau agent destroy`: stops an agent and removes what it was given. */

import { systemClock } from "@bureau/kit/clock";
import { accountOf, serverOf, userIdOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation } from "../command/command.ts";
import {
  administratorCredentials,
  isHere,
  machineOf,
  openSession,
  principalOf,
} from "../instance/operator.ts";
import { destroyPrincipal } from "../instance/principal.ts";
import { waitUntilGone } from "./agent-report.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation);
  const principal = principalOf(machine, invocation.args[0] ?? "");
  const purge = booleanFlag(invocation, "purge");
  const step = terminal.step(`Destroying ${accountOf(principal)}`);
  try {
    await destroyPrincipal({
      session,
      machine,
      principal,
      ...(purge
        ? {
            purge: {
              registrationToken: administratorCredentials(invocation).registrationToken,
              homeserver: session.homeserver,
            },
          }
        : {}),
    });
    const user = userIdOf(principal, serverOf(session.userId));
    if (!booleanFlag(invocation, "no-wait") && isHere(invocation, machine))
      await waitUntilGone(invocation, user, systemClock);
    step.done(`${accountOf(principal)} is gone${purge ? ", and its account is closed" : ""}`);
    if (booleanFlag(invocation, "json"))
      terminal.json({ ok: true, principal: accountOf(principal), purged: purge });
  } catch (error) {
    step.fail();
    throw error;
  }
}
