/** The flags of `bureau audit`. */
import { defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";

export const auditFlags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  machine: {
    type: "string",
    value: "NAME",
    summary: "Only this machine: its name or full localpart (default: every machine of the fleet)",
  },
  principal: {
    type: "string",
    value: "NAME",
    summary: "Only acts of, and on, this principal or user ID",
  },
  since: { type: "string", value: "DURATION", summary: "Only the last 30m, 24h, 7d, …" },
  limit: { type: "string", short: "n", value: "N", summary: "The newest so many (default: 50)" },
  follow: { type: "boolean", short: "f", summary: "Then print further events as they happen" },
  head: {
    type: "string",
    value: "CHAIN:NUMBER:HASH",
    needs: ["machine"],
    summary: "verify: an event that you saw before must still be in the chain",
  },
});
export const auditPositionals = definePositionals([
  { name: "act", summary: '"verify" checks the chain of the events (default: print them)', optional: true },
]);
export type AuditAsked = Invocation<typeof auditFlags, typeof auditPositionals>;
