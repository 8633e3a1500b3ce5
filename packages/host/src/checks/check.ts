/**
 * What a check is: a row of the table that `bureau machine doctor` runs, that `--fix` plans from, and that docs/doctor.md
 * is printed from. A check looks and reports. It changes nothing, downloads nothing, and asks no question.
 */
import type { Action } from "../resources/registry.ts";
import type { HostView } from "./host-view.ts";

/** In the order they are shown. */
export const checkGroups = [
  "system",
  "programs",
  "directories",
  "configuration",
  "systemd",
  "sockets",
  "matrix",
  "services",
  "versions",
  "host",
] as const;
export type CheckGroup = (typeof checkGroups)[number];

/** `warn`: works, but not as it should. */
export type Status = "pass" | "warn" | "fail" | "skip";

/** How a finding is repaired. */
export type Remedy = {
  /** What a person types or does; with `actions`, what `--fix` cannot do alone. */
  readonly hint?: string;
  /** What `--fix` does. */
  readonly actions?: readonly Action[];
};

/**
 * Why a check did not look. `not-applicable`: this kind of installation has no such thing. `hidden`: the caller may not
 * look there, root may. `unknown`: what the check depends on is missing or does not answer.
 */
export type SkipReason = "not-applicable" | "hidden" | "unknown";

/** What a check found. */
export type Finding = {
  /** What is there, for a person. */
  readonly found: string;
  /** What should be there, where that depends on this host; otherwise the check's own words. */
  readonly expected?: string;
} & (
  | { readonly status: "pass" }
  | { readonly status: "skip"; readonly because: SkipReason }
  | ({ readonly status: "warn" | "fail" } & Remedy)
);

/** How a check's findings are repaired, for the documentation and as the last resort for a hint. */
export type Repair =
  /** By `--fix`; `byHand` where it cannot. */
  | { readonly kind: "fix"; readonly text: string; readonly byHand?: string }
  | { readonly kind: "by-hand"; readonly text: string };

export type Check = {
  /** Stable: scripts name it in `--check`. */
  readonly id: string;
  readonly group: CheckGroup;
  readonly title: string;
  readonly expected: string;
  readonly repair: Repair;
  /** `rootless`: what a rootless instance has instead. */
  readonly scope:
    | { readonly kind: "every-installation" }
    | { readonly kind: "system"; readonly rootless: string };
  readonly run: (host: HostView) => Finding | Promise<Finding>;
};

/** A check's line in the result. */
export type CheckResult = {
  readonly check: Check;
  readonly finding: Finding;
};

export const everyInstallation = { kind: "every-installation" } as const;
export const systemOnly = (rootless: string): Check["scope"] => ({ kind: "system", rootless });

export const byFix = (text: string): Repair => ({ kind: "fix", text });
export const byHand = (text: string): Repair => ({ kind: "by-hand", text });

export const pass = (found: string): Finding => ({ status: "pass", found });
export const skip = (found: string, because: SkipReason = "unknown"): Finding => ({
  status: "skip",
  found,
  because,
});
/** Without permission a check reports neither presence nor absence, neither pass nor fail. */
export const hidden = (found: string): Finding => skip(found, "hidden");
export const warn = (found: string, remedy: Remedy = {}): Finding => ({ status: "warn", found, ...remedy });
export const fail = (found: string, remedy: Remedy = {}): Finding => ({ status: "fail", found, ...remedy });

/** How the finding is repaired; empty when nothing has to be. */
export const remedyOf = (finding: Finding): Remedy =>
  finding.status === "warn" || finding.status === "fail" ? finding : {};
