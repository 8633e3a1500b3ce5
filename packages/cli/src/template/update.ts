/** `bureau template update`: changes fields of a template, lists the affected principals, and waits for the outcome. */
import { type TemplateEdit, withField } from "@bureau/control/templates/template-edit";
import type { Effect, Impact, Touched } from "@bureau/control/templates/template-impact";
import { refuseUnknownFields } from "@bureau/control/templates/template-store";
import type { Outcome } from "@bureau/control/templates/update-outcome";
import {
  isUpdated,
  planTemplateUpdate,
  type WrittenUpdate,
  writeTemplateUpdate,
} from "@bureau/control/templates/update-template";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { type Pair, parseKeyValue, parseVariable } from "../command/key-value.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";
import { absenceOf } from "../machine/absence.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  environment: { type: "string", value: "PATH", summary: "Nix store path of its environment" },
  command: { type: "string", value: "TEXT", summary: "Command, run with /bin/sh -c" },
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
  unset: { type: "string", value: "FIELD", multiple: true, summary: "Remove a field" },
  "dry-run": { type: "boolean", summary: "List the affected principals; write nothing" },
  wait: {
    type: "boolean",
    excludes: ["dry-run"],
    summary: "Wait until all of them are healthy or rolled back",
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
  summary: "Change a template; its agents and services restart, and roll back if that fails",
  details:
    "Changes the given fields and keeps the others. Affects only principals of the fleet whose template is this one or\ninherits from it. Each machine restarts its principals with a grace period, checks their health, and rolls back to the\nprevious configuration when the new one fails. With --wait, the exit code is 1 when any was rolled back.",
  positionals,
  flags,
  examples: [
    "bureau template update bureau/template:claude-agent --environment /nix/store/…-claude --dry-run",
    "bureau template update bureau/template:web --set health_check.interval_seconds=5 --wait",
  ],
  run,
});

/** With the default health check, grace, threshold and rollback take about two minutes. */
const WAIT_DEFAULT = "5m";

async function run(invocation: Asked): Promise<number> {
  const reference = invocation.args.ref;
  const edit = editOf(invocation, reference);
  const timeoutMs = parseDuration(invocation.flags.timeout ?? WAIT_DEFAULT, "--timeout");
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const planned = await planTemplateUpdate(session, fleet, reference, edit);
  const { isChange: changed, impact } = planned;
  const isDry = invocation.flags["dry-run"];
  const isJson = invocation.flags.json;
  if (!isJson) sayImpact(invocation, reference, impact, changed);
  let event: string | undefined;
  let outcomes: ReadonlyMap<Touched, Outcome> = new Map();
  if (changed && !isDry) {
    const written = await writeTemplateUpdate(session, planned, { follows: invocation.flags.wait });
    event = written.event;
    invocation.terminal.say(`Updated "${reference}"`);
    outcomes = await follow(invocation, written, timeoutMs);
  }
  const ok = isUpdated(outcomes);
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

const shown = ({ machine, principal, template, effect, reason, presence }: Touched) => ({
  machine,
  principal,
  template,
  effect,
  machine_state: presence.state === "online" ? "online" : "offline",
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
    throw new BureauError("invalid-input", "No change given", {
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
  restart: "restarts",
  payload: "gets another payload",
  check: "gets another health check",
  none: "does not change",
  stopped: "stops",
  broken: "keeps running as it is, with a fault",
};

function sayImpact({ terminal }: Asked, reference: string, impact: Impact, changed: boolean): void {
  if (!changed) terminal.say(`"${reference}" has these values already; nothing is written`);
  if (impact.touched.length === 0) terminal.say(`No agent or service uses "${reference}"`);
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
      terminal.say(`${machine} ${away}: it applies the change when it is back`);
  for (const { machine, reason } of impact.unreadable)
    terminal.say(
      `Cannot read the configuration of ${machine}, which may be affected too: ${asTyped(reason)}`,
    );
}

const machinesAway = ({ touched }: Impact): ReadonlyMap<string, string> =>
  new Map(
    touched.flatMap(({ machine, presence }) => {
      const absence = absenceOf(presence, systemClock.now());
      return absence === undefined ? [] : [[machine, absence] as const];
    }),
  );

async function follow(
  { terminal }: Asked,
  { followed, outcomes: follow }: WrittenUpdate,
  timeoutMs: number,
): Promise<ReadonlyMap<Touched, Outcome>> {
  if (followed.length === 0) return new Map();
  const step = terminal.step(`Waiting for ${followed.length} principals`);
  const count = (done: number): string => `${done} of ${followed.length} principals have an outcome`;
  const outcomes = await follow({
    timeoutMs,
    clock: systemClock,
    onProgress: (done) => step.update(count(done)),
  });
  if (isUpdated(outcomes))
    step.done(`${followed.length} of ${followed.length} principals run with the change`);
  else step.fail("Not every principal runs with the change");
  for (const [{ principal, machine }, { outcome, reason }] of outcomes)
    terminal.say(
      `  ${principal} on ${machine}: ${outcome}${reason === undefined ? "" : ` (${asTyped(reason)})`}`,
    );
  return outcomes;
}
