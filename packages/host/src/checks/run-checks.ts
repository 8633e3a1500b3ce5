/** All checks at once, each with a limit: one that hangs says so, and holds up no other. */
import { errnoOf, messageOf } from "@bureau/kit/errors";
import { limitWhileTurning } from "@bureau/kit/wait-for";
import { type Check, type CheckResult, type Finding, hidden } from "./check.ts";
import type { HostView } from "./host-view.ts";

/** A check that knows less by then will not know more. */
const CHECK_MS_MAX = 8_000;

export type Summary = Readonly<Record<"pass" | "warn" | "fail" | "skip", number>>;

export function runChecks(checks: readonly Check[], host: HostView): Promise<CheckResult[]> {
  return Promise.all(checks.map(async (check) => ({ check, finding: await findingOf(check, host) })));
}

async function findingOf(check: Check, host: HostView): Promise<Finding> {
  if (host.kind === "rootless" && check.systemOnly !== undefined)
    return { status: "skip", found: check.systemOnly };
  const late = Promise.withResolvers<Finding>();
  // Other checks hold the loop up, by hashing programs for one, and on a busy host for long.
  using _limit = limitWhileTurning(CHECK_MS_MAX, () =>
    late.resolve({ status: "fail", found: `no answer within ${CHECK_MS_MAX / 1000} s` }),
  );
  try {
    return await Promise.race([Promise.resolve(check.probe(host)), late.promise]);
  } catch (error) {
    return isRefused(error) && !host.isRoot
      ? hidden(`only root may look: ${messageOf(error)}`)
      : { status: "fail", found: `it cannot be checked: ${messageOf(error)}` };
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
