/** `bureau auth check`: whether an act is allowed, by which rule, and what would allow it. */
import { systemClock } from "@bureau/kit/clock";
import { queryAuthorization } from "@bureau/os/daemon-client";
import type { AuthorizationReply } from "@bureau/schema/observe-wire";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { sayNext } from "../command/say-next.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedAction, typedUser } from "../command/typed-users.ts";
import { askHere } from "./ask-here.ts";
import { fixesFor } from "./fix.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  actor: { type: "string", value: "USER", summary: "The same as the first argument" },
  action: { type: "string", value: "ACTION", summary: "The same as the second argument" },
  target: { type: "string", value: "USER", summary: "The same as the third argument" },
});
const positionals = definePositionals([
  { name: "actor", summary: "Who acts: a principal, or a person after @", optional: true },
  { name: "action", summary: "What: interrupt, observe, matrix/join, …", optional: true },
  { name: "target", summary: "On whom, unless the act is on the actor itself", optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Explain whether an act is allowed, and what would allow it",
  details:
    "Names the rules that decide, with their sources, and the commands that would allow a denied act.\nExit code: 0 allowed, 3 denied, 1 the question could not be answered.",
  positionals,
  flags,
  examples: [
    "bureau auth check agent/demo observe agent/greeter",
    "bureau auth check @ann observe demo --json",
  ],
  run,
});

const DENIED = 3;

async function run(invocation: Asked): Promise<number> {
  const { terminal, args, flags } = invocation;
  const here = askHere(invocation);
  const given = (name: "actor" | "action" | "target"): string | undefined => args[name] ?? flags[name];
  const [actorTyped, actionTyped, targetTyped] = [given("actor"), given("action"), given("target")];
  if (actorTyped === undefined || actionTyped === undefined)
    throw new UsageError(
      "An actor and an action are needed",
      "bureau auth check agent/demo interrupt agent/other",
    );
  const actor = typedUser(here.machine, here.server, actorTyped);
  const action = typedAction(actionTyped);
  const target = targetTyped === undefined ? undefined : typedUser(here.machine, here.server, targetTyped);
  const reply = await queryAuthorization(here.layout, {
    token: here.token,
    actor,
    action,
    ...(target === undefined ? {} : { target }),
  });
  const allowed = reply.decision === "allow";
  const fix = allowed
    ? []
    : fixesFor({ machine: here.machine, actor, action, target }, reply, systemClock.now());
  const rules = rulesOf(reply);
  if (invocation.flags.json)
    terminal.json({ allowed, reason: reply.reason ?? "", rules, fix, actor, action, target: target ?? "" });
  else {
    const act = `${actor} ${allowed ? "may" : "may not"} do "${action}"${target === undefined ? "" : ` to ${target}`}`;
    terminal.print(allowed ? act : `${act}: ${reply.reason ?? ""}`);
    for (const { kind, ...rule } of rules)
      terminal.print(`  ${kind} from ${rule.source ?? "an unknown source"}: ${describe(rule)}`);
    for (const next of fix) sayNext(terminal, next);
  }
  return allowed ? 0 : DENIED;
}

const kinds = {
  matched_grant: "grant",
  matched_denial: "denial",
  matched_allowance: "allowance",
  matched_allowance_denial: "allowance denial",
} as const;

/** The rules that decided, in the order in which they were asked. */
function rulesOf(reply: AuthorizationReply) {
  return Object.entries(kinds).flatMap(([field, kind]) => {
    const rule = reply[field as keyof typeof kinds];
    return rule === undefined ? [] : [{ kind, ...rule }];
  });
}

function describe(rule: {
  readonly actions: readonly string[];
  readonly targets?: readonly string[] | undefined;
  readonly actors?: readonly string[] | undefined;
  readonly expires_at?: string | undefined;
}): string {
  const { actions, targets, actors, expires_at } = rule;
  return [
    actions.join(" "),
    ...(targets === undefined ? [] : [`on ${targets.join(" ")}`]),
    ...(actors === undefined ? [] : [`by ${actors.join(" ")}`]),
    ...(expires_at === undefined ? [] : [`until ${expires_at}`]),
  ].join(" ");
}
