/** Runs all checks at once. Each has a time limit, so a check that hangs delays no other. */
import { errnoOf, messageOf } from "@bureau/kit/errors";
import { limitWhileTurning } from "@bureau/kit/wait-for";
import { type Check, type CheckResult, type Finding, fail, hidden, type Status, skip } from "./check.ts";
import type { HostView } from "./host-view.ts";

/** A check that has no answer by then will not get one. */
const CHECK_MS_MAX = 8_000;

export type Summary = Readonly<Record<Status, number>>;

export function runChecks(checks: readonly Check[], host: HostView): Promise<CheckResult[]> {
  return Promise.all(checks.map(async (check) => ({ check, finding: await findingOf(check, host) })));
}

async function findingOf(check: Check, host: HostView): Promise<Finding> {
  if (host.kind === "rootless" && check.scope.kind === "system")
    return skip(check.scope.rootless, "not-applicable");
  const late = Promise.withResolvers<Finding>();
  // Other checks block the event loop, for example while they hash programs; on a busy host for long.
  using _limit = limitWhileTurning(CHECK_MS_MAX, () =>
    late.resolve(fail(`no answer within ${CHECK_MS_MAX / 1000} s`)),
  );
  try {
    return await Promise.race([Promise.resolve(check.run(host)), late.promise]);
  } catch (error) {
    return isRefused(error) && !host.isRoot
      ? hidden(`only root may look: ${messageOf(error)}`)
      : fail(`cannot check: ${messageOf(error)}`);
  }
}

const isRefused = (error: unknown): boolean =>
  errnoOf(error) === "EACCES" ||
  errnoOf(error) === "EPERM" ||
  (error instanceof Error && error.cause !== undefined && isRefused(error.cause));

export function summarise(results: readonly CheckResult[]): Summary {
  const count = { pass: 0, warn: 0, fail: 0, skip: 0 };
  for (const { finding } of results) count[finding.status]++;
  return count;
}
