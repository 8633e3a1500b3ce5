/** One entry of a template's `egress`, checked by the rules of egress-rules.ts. */
import * as v from "valibot";
import { parseEgressRule } from "./egress-rules.ts";

export const EgressEntrySchema = v.pipe(
  v.string(),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const rule = parseEgressRule(dataset.value);
    if (typeof rule === "string") addIssue({ message: `invalid egress entry "${dataset.value}": ${rule}` });
  }),
);
