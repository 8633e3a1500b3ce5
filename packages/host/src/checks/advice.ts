/** What a person does about a finding that `--fix` does not repair. */
import { type Check, type Finding, remedyOf } from "./check.ts";

/** The next step for the user. Every failed check has one. */
export function adviceOn({ id, repair }: Pick<Check, "id" | "repair">, finding: Finding): string | undefined {
  const { hint = "" } = remedyOf(finding);
  if (hint !== "") return hint;
  const manual = repair.kind === "by-hand" ? repair.text : repair.byHand;
  if (manual !== undefined) return manual;
  return finding.status === "fail" ? `reach the expected state (${id} in docs/doctor.md)` : undefined;
}
