/** The state events that grant: a room's policy, and grants for a time (wire facts, section 3.9). */
import * as v from "valibot";
import { AllowanceSchema, GrantSchema } from "./authorization.ts";
import { list, mapOf, ref } from "./parse.ts";
import { parseUserId } from "./refs.ts";

/** By the least power level that a member needs: an integer as text. */
const byLevel = <const Rule extends v.GenericSchema>(rule: Rule) =>
  v.optional(
    v.pipe(
      mapOf(list(rule)),
      v.check(
        (levels) => Object.keys(levels).every((level) => /^-?\d{1,15}$/u.test(level)),
        "its keys must be power levels",
      ),
    ),
  );

/** `m.bureau.authorization`, state key `""`: for the members of its room. */
export const RoomAuthorizationSchema = v.object({
  member_grants: v.optional(list(GrantSchema)),
  power_level_grants: byLevel(GrantSchema),
  member_allowances: v.optional(list(AllowanceSchema)),
  power_level_allowances: byLevel(AllowanceSchema),
});
export type RoomAuthorization = v.InferOutput<typeof RoomAuthorizationSchema>;

/** `m.bureau.temporal_grant`, state key: the ticket. */
export const TemporalGrantSchema = v.object({
  grant: v.pipe(
    GrantSchema,
    v.check(({ expires_at }) => expires_at !== undefined, "a temporal grant needs expires_at"),
  ),
  principal: ref(parseUserId),
});
export type TemporalGrant = v.InferOutput<typeof TemporalGrantSchema>;
