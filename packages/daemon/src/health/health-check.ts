/** A template's health check with the wire's defaults filled in (section 12.1), in milliseconds. */
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { HealthCheck } from "@bureau/schema/template";

const TIMEOUT_SECONDS = 5;
const FAILURES = 3;
const GRACE_SECONDS = 30;

/** A program without a health check works once it has run this long. One that cannot start ends sooner. */
export const STEADY_MS = 10_000;

export type CheckPlan = {
  /** Undefined: the service's own socket is asked instead. */
  readonly endpoint: string | undefined;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row that make a principal unhealthy. */
  readonly failuresMax: number;
  /** The first check is this long and one interval after the start. */
  readonly graceMs: number;
};

/** Zero is unset, as in the reference. */
export const checkPlan = (check: HealthCheck): CheckPlan => ({
  endpoint: check.type === "socket" ? undefined : check.endpoint,
  intervalMs: check.interval_seconds * 1_000,
  timeoutMs: (check.timeout_seconds || TIMEOUT_SECONDS) * 1_000,
  failuresMax: check.failure_threshold || FAILURES,
  graceMs: (check.grace_period_seconds || GRACE_SECONDS) * 1_000,
});

/** Names by object: a template's health check stays the same object, and each plan compares the checks of all principals. */
const names = new WeakMap<HealthCheck, string>();

/** Equal for equal health checks, in any order of their keys. */
export function checkNameOf(check: HealthCheck | undefined): string {
  if (check === undefined) return "none";
  const known = names.get(check);
  if (known !== undefined) return known;
  const name = canonicalJson(check);
  names.set(check, name);
  return name;
}
