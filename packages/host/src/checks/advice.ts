/** What a person does about a finding that the doctor does not repair itself. */
import type { Check, Finding } from "./check.ts";

const BY_HAND = /^by hand:? ?/;

/** The next step for the user: every failed check has one. */
export function adviceOn(
  { id, repair }: Pick<Check, "id" | "repair">,
  { status, hint = "" }: Finding,
): string | undefined {
  if (hint !== "") return hint;
  const byHand = BY_HAND.test(repair) ? repair.replace(BY_HAND, "") : "";
  if (byHand !== "") return byHand;
  return status === "fail" ? `reach the expected state (${id} in docs/doctor.md)` : undefined;
}
