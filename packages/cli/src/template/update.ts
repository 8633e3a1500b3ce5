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
import { booleanFlag, type Invocation, listFlag, stringFlag } from "../command/command.ts";
import { type Pair, parseKeyValue, parseVariable } from "../command/key-value.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { asTyped } from "../command/typed-command.ts";

/** Grace, threshold and rollback of a health check with the wire's defaults take about two minutes. */
const WAIT_DEFAULT = "5m";

export async function run(invocation: Invocation): Promise<number> {
  const reference = invocation.args[0] ?? "";
  const edit = editOf(invocation, reference);
  const timeoutMs = parseDuration(stringFlag(invocation, "timeout") ?? WAIT_DEFAULT, "--timeout");
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
  const isDry = booleanFlag(invocation, "dry-run");
  const isJson = booleanFlag(invocation, "json");
  if (!isJson) sayImpact(invocation, reference, impact, changed);
  let event: string | undefined;
  let outcomes: ReadonlyMap<Touched, Outcome> = new Map();
  if (changed && !isDry) {
    const followed = booleanFlag(invocation, "wait") ? impact.touched.filter(isFollowed) : [];
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
      ...{ ok, ref: reference, fleet, changed, dry_run: isDry, event_id: event ?? null },
      ...{ principals, unreadable },
    });
  }
  return ok ? 0 : 1;
}

/** Everybody who was waited for runs with the change. */
const isWell = (outcomes: ReadonlyMap<Touched, Outcome>): boolean =>
  [...outcomes.values()].every(({ outcome }) => outcome === "healthy" || outcome === "updated");

const shown = ({ machine, principal, template, effect, reason, away }: Touched) => ({
  ...{ machine, principal, template, effect, machine_state: away === undefined ? "online" : "offline" },
  ...(reason === undefined ? {} : { reason }),
});

const fieldPair: Pair = {
  ...{ what: "--set", form: "FIELD=VALUE" },
  example: "--set description='what it is for', or --set namespaces.net=false",
};

/** The change that the flags describe, applicable to any content. */
function editOf(invocation: Invocation, reference: string): TemplateEdit {
  const fields: (readonly [path: string, value: unknown])[] = [];
  const environment = stringFlag(invocation, "environment");
  if (environment !== undefined && !environment.startsWith("/"))
    throw new BureauError("invalid-input", `--environment "${environment}" is not a path`, {
      hint: "a Nix store path: /nix/store/…",
    });
  const command = stringFlag(invocation, "command");
  const description = stringFlag(invocation, "description");
  if (environment !== undefined) fields.push(["environment", environment]);
  if (command !== undefined) fields.push(["command", ["/bin/sh", "-c", command]]);
  if (description !== undefined) fields.push(["description", description]);
  const unset = listFlag(invocation, "unset");
  refuseUnknownFields(Object.fromEntries(unset.map((path) => [path.split(".")[0] ?? "", true])), "--unset");
  for (const path of unset) fields.push([path, undefined]);
  for (const pair of listFlag(invocation, "set")) {
    const [path, text] = parseKeyValue(pair, fieldPair);
    fields.push([path, jsonOrText(text)]);
  }
  const variables = listFlag(invocation, "env").map(parseVariable);
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

function sayImpact({ terminal }: Invocation, reference: string, impact: Impact, changed: boolean): void {
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
  { terminal }: Invocation,
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
    ...{ timeoutMs, stands, clock: systemClock },
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
