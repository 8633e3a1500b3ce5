/** Parses input that contains credentials: errors name the invalid fields and never quote their values. */
import { BureauError } from "@bureau/kit/errors";
import * as v from "valibot";

/** @throws BureauError `invalid-input` with only the paths of the invalid fields */
export function parseSecretly<const Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  what: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const fields = result.issues.map((issue) => {
    const expected = issue.expected === null ? "another form" : issue.expected;
    return `${v.getDotPath(issue) ?? "the value itself"}: expected ${expected}`;
  });
  throw new BureauError("invalid-input", `Invalid ${what}: ${fields.slice(0, 5).join("; ")}`);
}
