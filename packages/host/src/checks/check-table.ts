/** All checks, in the order they are shown. */
import { type Check, checkGroups } from "./check.ts";
import { configurationChecks } from "./configuration-checks.ts";
import { directoryChecks } from "./directory-checks.ts";
import { hostChecks } from "./host-checks.ts";
import { matrixChecks } from "./matrix-checks.ts";
import { nixChecks } from "./nix-checks.ts";
import { programChecks } from "./program-checks.ts";
import { serviceChecks } from "./service-checks.ts";
import { socketChecks } from "./socket-checks.ts";
import { systemChecks } from "./system-checks.ts";
import { systemdChecks } from "./systemd-checks.ts";
import { versionChecks } from "./version-checks.ts";

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
