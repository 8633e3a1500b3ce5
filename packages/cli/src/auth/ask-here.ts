/** What the commands of `bureau auth` that ask a daemon share: only the machine's own daemon knows what it decides. */

import { BureauError } from "@bureau/kit/errors";
import type { Layout } from "@bureau/os/layout";
import { type MachineLocalpart, type ServerName, serverOf } from "@bureau/schema/refs";
import { requireInstallation } from "../command/installation.ts";
import { isHere, machineOf, type SessionChoice, storedSession } from "../command/operator.ts";
import type { FleetValue } from "../command/shared-flags.ts";

export type Here = {
  readonly machine: MachineLocalpart;
  readonly server: ServerName;
  readonly token: string;
  readonly layout: Layout;
};

/** @throws BureauError `unsupported` for another machine */
export function askHere(
  invocation: SessionChoice & { readonly flags: FleetValue & { readonly machine: string | undefined } },
): Here {
  const machine = machineOf(invocation, invocation.flags.machine);
  if (!isHere(invocation, machine))
    throw new BureauError("unsupported", `Only "${machine}" itself knows what it allows`, {
      hint: "run this on that machine",
    });
  const { token, userId } = storedSession(invocation);
  return { machine, server: serverOf(userId), token, layout: requireInstallation(invocation).layout };
}
