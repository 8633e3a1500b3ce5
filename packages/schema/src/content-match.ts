/**
 * Conditions on an event's content (wire facts, section 3.4): every named field must match. A bare scalar means
 * equality; an object holds `$eq $lt $lte $gt $gte $in`, all of which must hold.
 */
import * as v from "valibot";
import { mapOf } from "./parse.ts";

const ScalarSchema = v.union([v.string(), v.number(), v.boolean()]);
type Scalar = v.InferOutput<typeof ScalarSchema>;

const OperatorsSchema = v.pipe(
  v.strictObject({
    $eq: v.optional(ScalarSchema),
    $lt: v.optional(v.number()),
    $lte: v.optional(v.number()),
    $gt: v.optional(v.number()),
    $gte: v.optional(v.number()),
    $in: v.optional(v.pipe(v.array(ScalarSchema), v.minLength(1))),
  }),
  v.check((operators) => Object.keys(operators).length > 0, "a condition needs at least one operator"),
);

type Operators = v.InferOutput<typeof OperatorsSchema>;

/** Refuses keys that would be lost: a lost condition would match everything. */
export const ContentMatchSchema = mapOf(v.union([ScalarSchema, OperatorsSchema]));
export type ContentMatch = v.InferOutput<typeof ContentMatchSchema>;

/** True when every field of `match` is in `content` and satisfies its condition. */
export function contentMatches(match: ContentMatch, content: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(match).every(([field, condition]) => {
    if (!Object.hasOwn(content, field)) return false;
    const operators = typeof condition === "object" ? condition : { $eq: condition };
    const value = content[field];
    return Array.isArray(value)
      ? value.some((element) => satisfies(operators, element))
      : satisfies(operators, value);
  });
}

/** Equality is strict in type; order is for numbers only, so anything else on either side is a mismatch. */
function satisfies(operators: Operators, value: unknown): boolean {
  const ordered = (bound: number | undefined, holds: (value: number, bound: number) => boolean): boolean =>
    bound === undefined || (typeof value === "number" && holds(value, bound));
  return (
    (operators.$eq === undefined || equal(operators.$eq, value)) &&
    ordered(operators.$lt, (a, b) => a < b) &&
    ordered(operators.$lte, (a, b) => a <= b) &&
    ordered(operators.$gt, (a, b) => a > b) &&
    ordered(operators.$gte, (a, b) => a >= b) &&
    (operators.$in === undefined || operators.$in.some((candidate) => equal(candidate, value)))
  );
}

const equal = (expected: Scalar, value: unknown): boolean => expected === value;
