/**
 * Desired state from a snapshot of the rooms. The same rooms always give the same result, independent of earlier calls.
 *
 * One bad assignment affects one principal: it becomes `failed` with a reason and a fault, and the others are resolved
 * as if it were absent. An undecided outcome never means "should not run".
 *
 * A change of the rooms concerns one principal of many. So a resolver first looks up what each principal depends on:
 * objects that stay the same until their event changes. It resolves a principal again only when one of them is another object.
 */
import type { StateEvent } from "@bureau/matrix/event";
import { digestOf } from "@bureau/os/digest";
import { type AuthorizationPolicy, joinPolicies } from "@bureau/schema/authorization";
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { contentMatches } from "@bureau/schema/content-match";
import { eventTypes, isCleared, type PrincipalAssignment } from "@bureau/schema/events";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";
import {
  fleetOf,
  type PrincipalName,
  type RoomAlias,
  type RoomId,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import { requiredServicesOf, sandboxSpecOf } from "@bureau/schema/sandbox-spec";
import type { Template } from "@bureau/schema/template";
import { machineIndex } from "../authorization/machine-index.ts";
import type { AssignedPolicies } from "../authorization/policy-sources.ts";
import type { StateName } from "../sync/sync-scope.ts";
import type { Desired, DesiredOutcome, DesiredPrincipal, WantedSandbox } from "./desired.ts";
import { specDigest } from "./digests.ts";
import { grantsOf } from "./grants.ts";
import { Memo } from "./memo.ts";
import { type AssignmentEntry, readAssignment } from "./read-assignment.ts";
import { resolveCredentials, type SealedCredentials } from "./resolve-credentials.ts";
import { resolveServices, type ServicesOutcome } from "./resolve-services.ts";
import type { Place, Snapshot } from "./snapshot.ts";
import { type ResolveTemplate, type TemplateOutcome, TemplateResolver } from "./template-resolver.ts";
import { workspaceNamedBy } from "./workspace.ts";

export class DesiredResolver {
  readonly #place: Place;
  readonly #whole = new Memo<"", Desired>();
  /** By its JSON text: a configuration that is written again has other objects for the same entries. */
  readonly #entries = new Memo<string, AssignmentEntry>();
  readonly #policies = new Memo<string, AuthorizationPolicy>();
  readonly #templates: TemplateResolver;
  /** By its JSON text: the same services are the same object. */
  readonly #services = new Memo<string, ServicesOutcome>();
  readonly #principals = new Memo<PrincipalName, DesiredPrincipal>();
  /** Of the last round and this one: the list stays the same object while its policies do. */
  #lastPolicies: ReadonlyMap<PrincipalName, readonly AuthorizationPolicy[]> = new Map();
  #roundPolicies = new Map<PrincipalName, readonly AuthorizationPolicy[]>();

  constructor(place: Place) {
    this.#place = place;
    this.#templates = new TemplateResolver(place);
  }

  /** How often each part was computed, not taken from before. */
  get computed() {
    return {
      configurations: this.#whole.computed,
      assignments: this.#entries.computed,
      templates: this.#templates.merged,
      principals: this.#principals.computed,
    };
  }

  resolve(snapshot: Snapshot): Desired {
    const { config, configRoom, serviceRoom, states, directory, members } = snapshot;
    const seen = {
      config,
      configRoom,
      serviceRoom,
      states: states.revision,
      directory: directory.revision,
      members: members.revision,
    };
    return this.#whole.of("", seen, () => {
      const needs: Needs = { aliases: new Set(), conditions: [] };
      const desired = this.#templates.round(snapshot, needs.aliases, (templates) =>
        this.#resolveAll(snapshot, templates, needs),
      );
      for (const memo of [this.#entries, this.#policies, this.#services, this.#principals]) memo.endRound();
      return desired;
    });
  }

  #resolveAll(snapshot: Snapshot, templates: ResolveTemplate, needs: Needs): Desired {
    const faults = new Set<string>();
    const { principals: listed = [], default_policy = {} } = snapshot.config;
    const defaultPolicy = this.#policies.of(JSON.stringify(default_policy), {}, () => default_policy);
    const entries = listed.map((raw) =>
      this.#entries.of(JSON.stringify(raw), {}, () => readAssignment(raw, this.#place)),
    );
    const assigned = new Map<UserId, AssignedPolicies | undefined>();
    const pending = new Map<PrincipalName, (index: AuthorizationIndex) => DesiredPrincipal>();
    for (const [index, { identity, assignment, fault }] of entries.entries()) {
      const sentence = fault?.(`principals.${index}`);
      if (sentence !== undefined) faults.add(sentence);
      if (identity === undefined) continue;
      const { account, userId } = identity;
      assigned.set(userId, undefined);
      if (pending.has(account)) {
        faults.add(`principals: ${userId} is assigned more than once`);
        pending.set(account, () => failed(identity, assignment, "It is assigned more than once"));
      } else if (assignment === undefined)
        pending.set(account, () => failed(identity, undefined, sentence ?? "Its assignment cannot be read"));
      else {
        const parts = partsOf(assignment, snapshot, templates, needs);
        const policies = policiesOf(assignment, parts, templates);
        assigned.set(userId, policies);
        const services = this.#servicesOf(assignment, parts.template, policies?.workspace, snapshot);
        pending.set(account, (index) => this.#principal({ account, assignment, services, ...parts }, index));
      }
    }
    const { index, policyRooms } = machineIndex(snapshot, defaultPolicy, assigned, (sentence) =>
      faults.add(sentence),
    );
    const principals = new Map([...pending].map(([account, resolve]) => [account, resolve(index)]));
    this.#lastPolicies = this.#roundPolicies;
    this.#roundPolicies = new Map();
    return { principals, authorization: index, faults: [...faults], policyRooms, ...needs };
  }

  #principal(inputs: Omit<PrincipalInputs, "policies">, index: AuthorizationIndex): DesiredPrincipal {
    const { account, assignment } = inputs;
    const now = index.policiesOf(assignment.principal);
    const before = this.#lastPolicies.get(account);
    const policies = before !== undefined && haveSameItems(before, now) ? before : now;
    this.#roundPolicies.set(account, policies);
    return this.#principals.of(account, { ...inputs, policies }, resolvePrincipal);
  }

  /** Undefined when it requires none. */
  #servicesOf(
    assignment: PrincipalAssignment,
    template: TemplateOutcome | undefined,
    room: RoomId | undefined,
    { states, configRoom, serviceRoom }: Snapshot,
  ): ServicesOutcome | undefined {
    if (template?.kind !== "resolved") return undefined;
    const required = requiredServicesOf(template.template, assignment);
    if (required === undefined) return undefined;
    const { machine, server } = this.#place;
    const outcome = resolveServices(
      required,
      {
        workspace: room === undefined ? undefined : states.room(room),
        config: states.room(configRoom),
        directory: serviceRoom === undefined ? undefined : states.room(serviceRoom),
      },
      { user: userIdOf(machine, server), fleet: fleetOf(machine) },
    );
    return this.#services.of(JSON.stringify(outcome), {}, () => outcome);
  }
}

const haveSameItems = (one: readonly unknown[], other: readonly unknown[]): boolean =>
  one.length === other.length && one.every((item, at) => item === other[at]);

const templatesOf = ({ template, extra_inherits = [] }: PrincipalAssignment, templates: ResolveTemplate) =>
  templates(template, extra_inherits);

/** Undefined while its template is not known: the template may deny. */
function policiesOf(
  assignment: PrincipalAssignment,
  { template, workspace }: Parts,
  templates: ResolveTemplate,
): AssignedPolicies | undefined {
  const resolved = template ?? templatesOf(assignment, templates);
  if (resolved.kind !== "resolved") return undefined;
  const { authorization, default_payload } = resolved.template;
  const named = workspaceNamedBy(assignment.payload, default_payload);
  return { assignment, template: authorization, workspace: workspace ?? named };
}

const failed = (
  identity: NonNullable<AssignmentEntry["identity"]>,
  assignment: PrincipalAssignment | undefined,
  reason: string,
): DesiredPrincipal => ({
  ...identity,
  template: assignment?.template ?? "",
  restartPolicy: "always",
  outcome: { kind: "failed", reason },
});

/** The inputs of the outcomes. */
type Needs = { readonly aliases: Set<RoomAlias>; readonly conditions: StateName[] };

type Undecided = Extract<DesiredOutcome, { kind: "waiting" | "failed" | "unresolved" }>;

/** What the outcome of one assignment depends on, besides itself and the machine's policy. */
type Parts = {
  /** Why it does not run by its start condition; undefined when that holds. */
  readonly blocked: Undecided["kind"] | undefined;
  readonly reason: string | undefined;
  /** The event that fulfilled the start condition. */
  readonly trigger: StateEvent | undefined;
  /** The room of the start condition, when it is not the config room. */
  readonly workspace: RoomId | undefined;
  /** Undefined when it should not run anyway. */
  readonly template: TemplateOutcome | undefined;
  readonly credentials: StateEvent | undefined;
  /** Keys beside the bundle. */
  readonly credentialKeys: StateEvent | undefined;
};

const nothing: Parts = {
  blocked: undefined,
  reason: undefined,
  trigger: undefined,
  workspace: undefined,
  template: undefined,
  credentials: undefined,
  credentialKeys: undefined,
};

function partsOf(
  assignment: PrincipalAssignment,
  snapshot: Snapshot,
  templates: ResolveTemplate,
  needs: Needs,
): Parts {
  if (!assignment.auto_start) return nothing;
  const condition = checkCondition(assignment, snapshot, needs);
  if (condition.kind !== "holds") return { ...nothing, blocked: condition.kind, reason: condition.reason };
  const config = snapshot.states.room(snapshot.configRoom);
  return {
    blocked: undefined,
    reason: undefined,
    trigger: condition.trigger,
    workspace: condition.workspace,
    template: templatesOf(assignment, templates),
    credentials: config?.get(eventTypes.credentials, stateKeyOf(assignment.principal)),
    credentialKeys: config?.get(eventTypes.credentialKeys, stateKeyOf(assignment.principal)),
  };
}

type Condition =
  | { readonly kind: "holds"; readonly trigger?: StateEvent; readonly workspace?: RoomId }
  | Undecided;

function checkCondition(assignment: PrincipalAssignment, snapshot: Snapshot, needs: Needs): Condition {
  const condition = assignment.start_condition;
  if (condition === undefined) return { kind: "holds" };
  const what = `${condition.event_type} "${condition.state_key}"`;
  needs.conditions.push({ type: condition.event_type, stateKey: condition.state_key });
  let room = snapshot.configRoom;
  if (condition.room_alias !== undefined) {
    needs.aliases.add(condition.room_alias);
    const found = snapshot.directory.lookup(condition.room_alias);
    if (found.kind === "missing")
      return { kind: "failed", reason: `Start condition ${what}: ${found.reason}` };
    if (found.kind === "pending")
      return { kind: "unresolved", reason: `looking for the room ${condition.room_alias}` };
    room = found.room;
  }
  const view = snapshot.states.room(room);
  if (view === undefined)
    return { kind: "unresolved", reason: `looking for the room ${condition.room_alias ?? room}` };
  if (!snapshot.states.keeps(condition.event_type, condition.state_key))
    return { kind: "unresolved", reason: `looking for the state event ${what}` };
  const trigger = view.get(condition.event_type, condition.state_key);
  if (trigger === undefined || isCleared(trigger.content))
    return { kind: "waiting", reason: `for the state event ${what}` };
  if (!contentMatches(condition.content_match ?? {}, trigger.content))
    return { kind: "waiting", reason: `for the state event ${what} to match` };
  return { kind: "holds", trigger, ...(room === snapshot.configRoom ? {} : { workspace: room }) };
}

type PrincipalInputs = Parts & {
  readonly account: PrincipalName;
  readonly assignment: PrincipalAssignment;
  /** Every policy that applies to it. */
  readonly policies: readonly AuthorizationPolicy[];
  readonly services: ServicesOutcome | undefined;
};

const resolvePrincipal = (inputs: PrincipalInputs): DesiredPrincipal => ({
  account: inputs.account,
  userId: inputs.assignment.principal,
  template: inputs.assignment.template,
  restartPolicy: inputs.assignment.restart_policy ?? "always",
  outcome: resolveOutcome(inputs),
});

function resolveOutcome(inputs: PrincipalInputs): DesiredOutcome {
  const { assignment, blocked, reason = "", template: resolved, trigger, workspace } = inputs;
  if (blocked !== undefined) return { kind: blocked, reason };
  if (resolved === undefined) return { kind: "stopped" };
  if (resolved.kind !== "resolved") return resolved;
  const { template } = resolved;
  const spec = sandboxSpecOf(template, assignment);
  const impossible = inputs.services?.fault ?? notYetPossible(template);
  if (impossible !== undefined) return { kind: "failed", reason: impossible };
  const credentials = resolveCredentials(assignment.principal, template, inputs);
  if ("reason" in credentials) return credentials;
  return {
    kind: "run",
    sandbox: {
      ...wantedSandbox(spec, credentials, grantsOf(joinPolicies(...inputs.policies))),
      trigger: trigger === undefined ? undefined : JSON.stringify(trigger.content),
      workspace,
      services: inputs.services,
      healthCheck: template.health_check,
    },
  };
}

/** Why this daemon cannot run the template at all: it reports that instead of ignoring a part of the template. */
function notYetPossible(template: Template): string | undefined {
  if (template.credential_ref !== undefined)
    return `Its template takes its credentials from "${template.credential_ref}", which this version cannot do`;
  return undefined;
}

function wantedSandbox(
  spec: SandboxSpec,
  { ciphertext, keys }: SealedCredentials,
  grants: WantedSandbox["grants"],
): Omit<WantedSandbox, "trigger"> {
  const { payload, ...structure } = spec;
  return {
    spec,
    digests: {
      spec: specDigest(digestOf(structure), digestOf(keys === undefined ? ciphertext : [ciphertext, keys])),
      payload: digestOf(payload ?? {}),
    },
    credentials: ciphertext,
    ...(keys === undefined ? {} : { credentialKeys: keys }),
    grants,
    grantsDigest: digestOf(grants),
  };
}
