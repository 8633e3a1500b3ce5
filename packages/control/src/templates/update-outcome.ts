/** The outcome of a template change for one principal, from the messages of its machine. Pure. */
import { eventMessages } from "@bureau/schema/events";
import * as v from "valibot";
import type { Touched } from "./template-impact.ts";

export type Outcome = {
  /**
   * `pending`: no outcome was reported in time. `superseded`: the template was changed again meanwhile, so that no outcome
   * of this change will be reported.
   */
  readonly outcome: "healthy" | "updated" | "rolled-back" | "failed" | "pending" | "superseded";
  readonly reason?: string;
};

export const Message = v.object({
  event_id: v.string(),
  sender: v.string(),
  content: v.looseObject({
    msgtype: v.optional(v.string()),
    principal: v.optional(v.string()),
    outcome: v.optional(v.string()),
    error: v.optional(v.string()),
    exit_code: v.optional(v.number()),
    exit_description: v.optional(v.string()),
  }),
});
export type Message = v.InferOutput<typeof Message>;

/** The outcome in the newest message that has one; else `pending`, with the last error. */
export function outcomeOf(one: Touched, said: readonly Message[]): Outcome {
  let trouble: string | undefined;
  for (const { content, sender } of said) {
    // Only the machine itself reports; the same message of another sender does not count.
    if (content.principal !== one.principal || sender !== `@${one.place.key}`) continue;
    const outcome = outcomeIn(one, content);
    if (outcome !== undefined) return outcome;
    trouble ??= content.error ?? content.exit_description;
  }
  return { outcome: "pending", ...(trouble === undefined ? {} : { reason: trouble }) };
}

function outcomeIn({ effect, assignment }: Touched, content: Message["content"]): Outcome | undefined {
  // Work that may end is never put on trial: its start is the last report.
  const isWork = (assignment.restart_policy ?? "always") !== "always";
  const reason = content.error === undefined ? {} : { reason: content.error };
  switch (content.msgtype) {
    case eventMessages.principalSteady:
      return { outcome: "healthy" };
    case eventMessages.healthCheck:
      if (content.outcome === "rolled_back") return { outcome: "rolled-back", ...reason };
      return content.outcome === "rollback_failed" ? { outcome: "failed", ...reason } : undefined;
    case eventMessages.payloadUpdated:
      return effect === "payload" ? { outcome: "updated" } : undefined;
    case eventMessages.principalRestarted:
    case eventMessages.principalStarted:
      return isWork ? { outcome: "updated" } : undefined;
    default:
      return undefined;
  }
}
