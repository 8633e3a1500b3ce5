/**
 * What a check is: a row of the table that `bureau machine doctor` walks, that `--fix` plans from, and that
 * docs/doctor.md is printed from. A check looks and says; it changes nothing, downloads nothing, asks nobody.
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

/** `warn`: works, but not as it should. `skip`: does not apply here, or cannot be seen by whoever runs the doctor. */
export type Status = "pass" | "warn" | "fail" | "skip";

/** What a check saw. */
export type Finding = {
  readonly status: Status;
  /** What is there, for a person. */
  readonly found: string;
  /** What should be there, where that depends on this host; otherwise the check's own words. */
  readonly expected?: string;
  /** What a person types or does; with `actions` it is what `--fix` cannot do alone. */
  readonly hint?: string;
  /** What `--fix` does about it. */
  readonly actions?: readonly Action[];
  /** Root would see more. */
  readonly isHidden?: true;
};

export type Check = {
  /** Stable: scripts name it in `--check`. */
  readonly id: string;
  readonly group: CheckGroup;
  readonly title: string;
  readonly expected: string;
  /** How it is repaired, for the documentation; "by hand: …" where `--fix` cannot. */
  readonly repair: string;
  /** Why it says nothing about a rootless instance; undefined where it applies to both. */
  readonly systemOnly?: string;
  readonly probe: (host: HostView) => Finding | Promise<Finding>;
};

/** A check's line in the result. */
export type CheckResult = {
  readonly check: Check;
  readonly finding: Finding;
};

export const pass = (found: string): Finding => ({ status: "pass", found });
export const skip = (found: string): Finding => ({ status: "skip", found });
/** A check without permission reports neither presence nor absence, neither pass nor fail. */
export const hidden = (found: string): Finding => ({ status: "skip", found, isHidden: true });
export const warn = (found: string, more: Omit<Finding, "status" | "found"> = {}): Finding => ({
  status: "warn",
  found,
  ...more,
});
export const fail = (found: string, more: Omit<Finding, "status" | "found"> = {}): Finding => ({
  status: "fail",
  found,
  ...more,
});
