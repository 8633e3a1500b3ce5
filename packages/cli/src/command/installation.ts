/** The Bureau on this host that a command is about. */
import * as host from "@bureau/host/installation";
import type { Env } from "./command.ts";
import type { HomeValue } from "./shared-flags.ts";

/** `--home`, where the command has it, and the environment. */
export type InstallationChoice = { readonly flags: Partial<HomeValue>; readonly env: Env };

const choice = ({ flags, env }: InstallationChoice) => ({ home: flags.home, env });

/** @throws BureauError as {@link host.findInstallation} does */
export const findInstallation = (chosen: InstallationChoice): host.Installation | undefined =>
  host.findInstallation(choice(chosen));

/** @throws BureauError `not-found` when there is none */
export const requireInstallation = (chosen: InstallationChoice): host.Installation =>
  host.requireInstallation(choice(chosen));
