/** Rules as a table: what each permits or denies, and where it comes from. */
import type { Terminal } from "../command/terminal.ts";

type Rule = {
  readonly actions: readonly string[];
  readonly targets?: readonly string[] | undefined;
  readonly actors?: readonly string[] | undefined;
  readonly expires_at?: string | undefined;
  readonly ticket?: string | undefined;
  readonly source?: string | undefined;
};

export function printRules(
  terminal: Terminal,
  whom: "TARGETS" | "ACTORS",
  permitted: readonly Rule[],
  denied: readonly Rule[],
): void {
  const rows = [
    ...permitted.map((rule) => ({ rule, effect: "allow" })),
    ...denied.map((rule) => ({ rule, effect: "deny" })),
  ];
  terminal.table(
    ["EFFECT", "ACTIONS", whom, "UNTIL", "SOURCE"],
    rows.map(({ rule, effect }) => [
      effect,
      rule.actions.join(" "),
      (rule.targets ?? rule.actors ?? []).join(" "),
      rule.expires_at ?? "",
      rule.ticket === undefined ? (rule.source ?? "") : `${rule.source ?? ""} ${rule.ticket}`.trim(),
    ]),
  );
}
