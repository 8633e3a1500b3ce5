/** All checks, in the order they are shown. */
import { type Check, checkGroups } from "./check.ts";
import { configurationChecks } from "./checks/configuration-checks.ts";
import { directoryChecks } from "./checks/directory-checks.ts";
import { hostChecks } from "./checks/host-checks.ts";
import { matrixChecks } from "./checks/matrix-checks.ts";
import { nixChecks } from "./checks/nix-checks.ts";
import { programChecks } from "./checks/program-checks.ts";
import { serviceChecks } from "./checks/service-checks.ts";
import { socketChecks } from "./checks/socket-checks.ts";
import { systemChecks } from "./checks/system-checks.ts";
import { systemdChecks } from "./checks/systemd-checks.ts";
import { versionChecks } from "./checks/version-checks.ts";

export const checkTable: readonly Check[] = [
  ...systemChecks,
  ...programChecks,
  ...directoryChecks,
  ...configurationChecks,
  ...systemdChecks,
  ...socketChecks,
  ...matrixChecks,
  ...serviceChecks,
  ...versionChecks,
  ...hostChecks,
  ...nixChecks,
].sort((a, b) => checkGroups.indexOf(a.group) - checkGroups.indexOf(b.group));
