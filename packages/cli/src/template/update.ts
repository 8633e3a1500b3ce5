/** `bureau template update`: changes fields of a template, says whom that touches, and follows what becomes of them. */

import {
  followUpdate,
  isFollowed,
  type Marks,
  markRooms,
  type Outcome,
} from "@bureau/control/templates/follow-update";
import {
  editedTemplate,
  storedTemplate,
  type TemplateEdit,
  withField,
  writeEdit,
} from "@bureau/control/templates/template-edit";
import {
  type Effect,
  type Impact,
  type Touched,
  templateImpact,
} from "@bureau/control/templates/template-impact";
import { readResolvedTemplate, refuseUnknownFields } from "@bureau/control/templates/template-store";
import { canonicalJson } from "@bureau/kit/canonical-json";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { type Pair, parseKeyValue, parseVariable } from "../command/key-value.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  environment: { type: "string", value: "PATH", summary: "The Nix store path that it runs in" },
  command: { type: "string", value: "TEXT", summary: "What it runs, by sh" },
  env: {
    type: "string",
    value: "NAME=VALUE",
    multiple: true,
    summary: "Add or replace an environment variable",
  },
  description: { type: "string", value: "TEXT", mayBeEmpty: true, summary: "Description for people" },
  set: {
    type: "string",
    value: "FIELD=VALUE",
    multiple: true,
    summary: "Any field, by its path: health_check.interval_seconds=5; JSON, else text",
  },
  unset: { type: "string", value: "FIELD", multiple: true, summary: "Leave a field out" },
  "dry-run": { type: "boolean", summary: "Say who would be touched, write nothing" },
  wait: {
    type: "boolean",
    excludes: ["dry-run"],
    summary: "Return when all of them run well, or were rolled back",
  },
  timeout: {
    type: "string",
    value: "DURATION",
    needs: ["wait"],
    summary: "How long --wait waits (default: 5m)",
  },
});
const positionals = definePositionals([{ name: "ref", summary: "Template reference, bureau/template:mine" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Change a template; whoever is made from it is restarted, and rolled back if that fails",
  details:
    "Changes the fields that are given and leaves the others. Only principals of the fleet that use the template, or\ninherit from it, are touched. Each machine restarts its own with grace, checks their health, and goes back to what\nran before when the new one does not work. --wait follows that; its exit code is 1 when anything was rolled back.",
  positionals,
  flags,
  examples: [
    "bureau template update bureau/template:claude-agent --environment /nix/store/…-claude --dry-run",
    "bureau template update bureau/template:web --set health_check.interval_seconds=5 --wait",
  ],
  run,
});

/** Grace, threshold and rollback of a health check with the wire's defaults take about two minutes. */
const WAIT_DEFAULT = "5m";

async function run(invocation: Asked): Promise<number> {
  const reference = invocation.args.ref;
  const edit = editOf(invocation, reference);
  const timeoutMs = parseDuration(invocation.flags.timeout ?? WAIT_DEFAULT, "--timeout");
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const stored = await storedTemplate(session, reference);
  const draft = editedTemplate(stored.content, edit, reference);
  const resolved = await readResolvedTemplate(session, reference, draft);
  if (!resolved.ok)
    throw new BureauError("invalid-input", `Cannot change "${reference}": ${resolved.problem}`, {
      hint: `bureau template show ${reference} --raw`,
    });
  const changed = canonicalJson(edit(stored.content)) !== canonicalJson(stored.content);
  const impact = await templateImpact(session, fleet, reference, draft);
  const isDry = invocation.flags["dry-run"];
  const isJson = invocation.flags.json;
  if (!isJson) sayImpact(invocation, reference, impact, changed);
  let event: string | undefined;
  let outcomes: ReadonlyMap<Touched, Outcome> = new Map();
  if (changed && !isDry) {
    const followed = invocation.flags.wait ? impact.touched.filter(isFollowed) : [];
    const marks = await markRooms(session, followed);
    event = await writeEdit(session, reference, stored, edit);
    invocation.terminal.say(`Updated "${reference}"`);
    const stands = async (): Promise<boolean> => (await storedTemplate(session, reference)).eventId === event;
    outcomes = await follow(invocation, session, followed, { marks, timeoutMs, stands });
  }
  const ok = isWell(outcomes);
  if (isJson) {
    const principals = impact.touched.map((one) => ({ ...shown(one), ...outcomes.get(one) }));
    const { unreadable } = impact;
    invocation.terminal.json({
      ok,
      ref: reference,
      fleet,
      changed,
      dry_run: isDry,
      event_id: event ?? null,
      principals,
      unreadable,
    });
  }
  return ok ? 0 : 1;
}

/** Everybody who was waited for runs with the change. */
const isWell = (outcomes: ReadonlyMap<Touched, Outcome>): boolean =>
  [...outcomes.values()].every(({ outcome }) => outcome === "healthy" || outcome === "updated");

const shown = ({ machine, principal, template, effect, reason, away }: Touched) => ({
  machine,
  principal,
  template,
  effect,
  machine_state: away === undefined ? "online" : "offline",
  ...(reason === undefined ? {} : { reason }),
});

const fieldPair: Pair = {
  what: "--set",
  form: "FIELD=VALUE",
  example: "--set description='what it is for', or --set namespaces.net=false",
};

/** The change that the flags describe, applicable to any content. */
function editOf(invocation: Asked, reference: string): TemplateEdit {
  const fields: (readonly [path: string, value: unknown])[] = [];
  const environment = invocation.flags.environment;
  if (environment !== undefined && !environment.startsWith("/"))
    throw new BureauError("invalid-input", `--environment "${environment}" is not a path`, {
      hint: "a Nix store path: /nix/store/…",
    });
  const command = invocation.flags.command;
  const description = invocation.flags.description;
  if (environment !== undefined) fields.push(["environment", environment]);
  if (command !== undefined) fields.push(["command", ["/bin/sh", "-c", command]]);
  if (description !== undefined) fields.push(["description", description]);
  const unset = invocation.flags.unset;
  refuseUnknownFields(Object.fromEntries(unset.map((path) => [path.split(".")[0] ?? "", true])), "--unset");
  for (const path of unset) fields.push([path, undefined]);
  for (const pair of invocation.flags.set) {
    const [path, text] = parseKeyValue(pair, fieldPair);
    fields.push([path, jsonOrText(text)]);
  }
  const variables = invocation.flags.env.map(parseVariable);
  if (fields.length === 0 && variables.length === 0)
    throw new BureauError("invalid-input", "Nothing to change was given", {
      hint: `bureau template update ${reference} --environment PATH; or --command, --env, --description, --set, --unset`,
    });
  return (content) => {
    const edited = fields.reduce((before, [path, value]) => withField(before, path, value), content);
    if (variables.length === 0) return edited;
    const known = edited["environment_variables"];
    const added = Object.fromEntries(variables);
    return { ...edited, environment_variables: { ...(typeof known === "object" ? known : {}), ...added } };
  };
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const inWords: Record<Effect, string> = {
  restart: "is restarted",
  payload: "is handed another payload",
  check: "has its health checked otherwise",
  none: "goes on as it is",
  stopped: "is switched off",
  broken: "goes on as it is, with a fault",
};

function sayImpact({ terminal }: Asked, reference: string, impact: Impact, changed: boolean): void {
  if (!changed) terminal.say(`"${reference}" says that already; nothing is written`);
  if (impact.touched.length === 0) terminal.say(`No agent or service is made from "${reference}"`);
  else if (changed)
    terminal.table(
      ["PRINCIPAL", "MACHINE", "TEMPLATE", ""],
      impact.touched.map(({ principal, machine, template, effect, reason }) => [
        principal,
        machine,
        template,
        `${inWords[effect ?? "none"]}${reason === undefined ? "" : `: ${asTyped(reason)}`}`,
      ]),
    );
  if (changed)
    for (const [machine, away] of machinesAway(impact))
      terminal.say(`${machine} ${away}: it follows when it is back`);
  for (const { machine, reason } of impact.unreadable)
    terminal.say(`${machine} cannot be looked at, and may be touched too: ${asTyped(reason)}`);
}

const machinesAway = ({ touched }: Impact): ReadonlyMap<string, string> =>
  new Map(touched.flatMap(({ machine, away }) => (away === undefined ? [] : [[machine, away] as const])));

async function follow(
  { terminal }: Asked,
  session: MatrixSession,
  followed: readonly Touched[],
  how: {
    readonly marks: Marks;
    readonly timeoutMs: number;
    readonly stands: () => Promise<boolean>;
  },
): Promise<ReadonlyMap<Touched, Outcome>> {
  if (followed.length === 0) return new Map();
  const step = terminal.step(`Waiting for ${followed.length} principals`);
  const { marks, timeoutMs, stands } = how;
  const outcomes = await followUpdate(session, followed, marks, {
    timeoutMs,
    stands,
    clock: systemClock,
    onProgress: (settled) => step.update(`${settled} of ${followed.length} principals are settled`),
  });
  if (isWell(outcomes)) step.done(`${followed.length} of ${followed.length} principals are settled`);
  else step.fail("Not every principal runs with the change");
  for (const [{ principal, machine }, { outcome, reason }] of outcomes)
    terminal.say(
      `  ${principal} on ${machine}: ${outcome}${reason === undefined ? "" : ` (${asTyped(reason)})`}`,
    );
  return outcomes;
}
