/** Which build root may run: one that neither the system user nor the operators can change. */
import type { Stats } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { faultOfContent, faultOfSteps, type Judge, stepsTo } from "@bureau/os/build-paths";
import { systemHost } from "@bureau/os/layout";
import { readAccounts } from "./accounts.ts";

/** @throws BureauError `forbidden` when a user who must not become root can change what root would run */
export function requireTrustworthy(build: string): void {
  const judge = untrusted();
  const fault = faultOfSteps(stepsTo(build), judge) ?? faultOfContent(build, judge);
  if (fault === undefined) return;
  throw new BureauError("forbidden", `Root must not run "${build}": ${fault}`, {
    hint: `run a bureau that only you or root can change, such as ${systemHost.command}`,
  });
}

function untrusted(): Judge {
  const accounts = readAccounts();
  const uid = accounts.user(systemHost.user)?.uid;
  const gids = [systemHost.user, systemHost.operatorsGroup].flatMap(
    (name) => accounts.group(name)?.gid ?? [],
  );
  return (path, stat) =>
    stat.uid === uid || isWritable(stat, gids) ? `"${path}" can be changed without root` : undefined;
}

/** The mode of a link means nothing: its folder's decides. A sticky folder protects its entries from other users. */
function isWritable(stat: Stats, gids: readonly number[]): boolean {
  if (stat.isSymbolicLink()) return false;
  const byGroup = (stat.mode & 0o020) !== 0 && gids.includes(stat.gid);
  const byAll = (stat.mode & 0o002) !== 0 && (stat.mode & 0o1000) === 0;
  return byGroup || byAll;
}
