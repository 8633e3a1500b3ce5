/**
 * Desired state from a snapshot of the rooms. Pure: the same rooms always give the same result.
 *
 * One bad assignment affects one principal: it becomes `failed` with a reason and a fault, and the others are resolved
 * as if it were absent. An undecided outcome never means "should not run".
 */
import { digestOf } from "@bureau/os/digest";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { contentMatches } from "@bureau/schema/content-match";
import {
  CredentialsSchema,
  eventTypes,
  isCleared,
  type PrincipalAssignment,
  PrincipalAssignmentSchema,
} from "@bureau/schema/events";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";
import { InputError, parse } from "@bureau/schema/parse";
import {
  fleetOf,
  type PrincipalName,
  parseUserId,
  principalNameOf,
  principalOfUser,
  type RoomAlias,
  type RoomId,
  serverOf,
  stateKeyOf,
  type UserId,
} from "@bureau/schema/refs";
import { sandboxSpecOf } from "@bureau/schema/sandbox-spec";
import type { Template } from "@bureau/schema/template";
import { policySources } from "../authorization/policy-sources.ts";
import type { StateName } from "../sync/sync-scope.ts";
import type { Desired, DesiredOutcome, DesiredPrincipal, WantedSandbox } from "./desired.ts";
import { specDigest } from "./digests.ts";
import { grantsOf } from "./grants.ts";
import { templateOf } from "./resolve-template.ts";
import type { Snapshot } from "./snapshot.ts";

export function resolveDesired(snapshot: Snapshot): Desired {
  const principals = new Map<PrincipalName, DesiredPrincipal>();
  const faults: string[] = [];
  const needs: Needs = { aliases: new Set(), conditions: [] };
  const defaultPolicy = snapshot.config.default_policy ?? {};
  const entries = (snapshot.config.principals ?? []).map((raw, index) =>
    readAssignment(raw, `principals.${index}`, snapshot),
  );
  const assigned = new Map<UserId, PrincipalAssignment | undefined>();
  for (const { identity, assignment } of entries)
    if (identity !== undefined) assigned.set(identity.userId, assignment);
  const authorization = new AuthorizationIndex(policySources(defaultPolicy, assigned));
  for (const entry of entries) {
    if (entry.fault !== undefined) faults.push(entry.fault);
    if (entry.identity === undefined) continue;
    const { account, userId } = entry.identity;
    const failed = (reason: string): DesiredPrincipal => ({
      account,
      userId,
      template: entry.assignment?.template ?? "",
      restartPolicy: "always",
      outcome: { kind: "failed", reason },
    });
    if (principals.has(account)) {
      const fault = `principals: ${userId} is assigned more than once`;
      if (!faults.includes(fault)) faults.push(fault);
      principals.set(account, failed("It is assigned more than once"));
    } else if (entry.assignment === undefined) {
      principals.set(account, failed(entry.fault ?? "Its assignment cannot be read"));
    } else {
      principals.set(account, resolvePrincipal(entry.assignment, account, authorization, snapshot, needs));
    }
  }
  return { principals, authorization, faults, aliases: needs.aliases, conditions: needs.conditions };
}

/** The inputs of the outcomes. */
type Needs = { readonly aliases: Set<RoomAlias>; readonly conditions: StateName[] };

type Entry = {
  readonly identity?: { readonly account: PrincipalName; readonly userId: UserId };
  /** Absent when it is unusable. */
  readonly assignment?: PrincipalAssignment;
  readonly fault?: string;
};

/** Parses one entry. Reads the principal's name also from a broken entry, if possible. */
function readAssignment(raw: unknown, where: string, snapshot: Snapshot): Entry {
  let fault: string | undefined;
  let assignment: PrincipalAssignment | undefined;
  try {
    assignment = parse(PrincipalAssignmentSchema, raw, where);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    fault = error.message;
  }
  const userId = assignment?.principal ?? claimedUser(raw);
  if (userId === undefined) return { fault: fault ?? `${where} names no principal` };
  let account: PrincipalName;
  try {
    const principal = principalOfUser(userId);
    if (fleetOf(principal) !== fleetOf(snapshot.machine) || serverOf(userId) !== snapshot.server)
      return { fault: `${where}: ${userId} does not belong to the fleet of this machine` };
    account = principalNameOf(principal);
    if (Buffer.byteLength(principal) > snapshot.localpartBytesMax)
      return {
        identity: { account, userId },
        fault: `${where}: the name of ${userId} has more than the ${snapshot.localpartBytesMax} bytes that fit a socket path here`,
      };
  } catch (error) {
    return { fault: fault ?? `${where}: ${error instanceof Error ? error.message : String(error)}` };
  }
  const identity = { account, userId };
  return assignment === undefined || fault !== undefined
    ? { identity, ...(fault === undefined ? {} : { fault }) }
    : { identity, assignment };
}

function claimedUser(raw: unknown): UserId | undefined {
  if (typeof raw !== "object" || raw === null || !("principal" in raw)) return undefined;
  try {
    return parseUserId(String(raw.principal));
  } catch {
    return undefined;
  }
}

function resolvePrincipal(
  assignment: PrincipalAssignment,
  account: PrincipalName,
  authorization: AuthorizationIndex,
  snapshot: Snapshot,
  needs: Needs,
): DesiredPrincipal {
  return {
    account,
    userId: assignment.principal,
    template: assignment.template,
    restartPolicy: assignment.restart_policy ?? "always",
    outcome: resolveOutcome(assignment, authorization, snapshot, needs),
  };
}

function resolveOutcome(
  assignment: PrincipalAssignment,
  authorization: AuthorizationIndex,
  snapshot: Snapshot,
  needs: Needs,
): DesiredOutcome {
  if (!assignment.auto_start) return { kind: "stopped" };
  const condition = checkCondition(assignment, snapshot, needs);
  if (condition.kind !== "holds") return condition;
  const resolved = templateOf(assignment.template, assignment.extra_inherits ?? [], snapshot, needs.aliases);
  if (resolved.kind !== "resolved") return resolved;
  const { template } = resolved;
  const spec = sandboxSpecOf(template, assignment);
  const blocked = notYetPossible(template, spec);
  if (blocked !== undefined) return { kind: "failed", reason: blocked };
  const credentials = credentialsOf(assignment.principal, template, snapshot);
  if ("reason" in credentials) return { kind: "failed", reason: credentials.reason };
  return {
    kind: "run",
    sandbox: {
      ...wantedSandbox(spec, credentials.ciphertext, assignment, authorization, condition.trigger),
      workspace: condition.workspace,
      healthCheck: template.health_check,
    },
  };
}

type Condition =
  | { readonly kind: "holds"; readonly trigger: string | undefined; readonly workspace?: RoomId }
  | Extract<DesiredOutcome, { kind: "waiting" | "failed" | "unresolved" }>;

function checkCondition(assignment: PrincipalAssignment, snapshot: Snapshot, needs: Needs): Condition {
  const condition = assignment.start_condition;
  if (condition === undefined) return { kind: "holds", trigger: undefined };
  const what = `${condition.event_type} "${condition.state_key}"`;
  needs.conditions.push({ type: condition.event_type, stateKey: condition.state_key });
  let room = snapshot.configRoom;
  if (condition.room_alias !== undefined) {
    needs.aliases.add(condition.room_alias);
    const found = snapshot.lookup(condition.room_alias);
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
  const content = view.get(condition.event_type, condition.state_key)?.content;
  if (content === undefined || isCleared(content))
    return { kind: "waiting", reason: `for the state event ${what}` };
  if (!contentMatches(condition.content_match ?? {}, content))
    return { kind: "waiting", reason: `for the state event ${what} to match` };
  const workspace = room === snapshot.configRoom ? {} : { workspace: room };
  return { kind: "holds", trigger: JSON.stringify(content), ...workspace };
}

/** Why this daemon cannot run the template at all: it reports that instead of ignoring a part of the template. */
function notYetPossible(template: Template, spec: SandboxSpec): string | undefined {
  const service = spec.required_services?.[0];
  if (service !== undefined) return `Service "${service}" is not available on this machine`;
  if (template.credential_ref !== undefined)
    return `Its template takes its credentials from "${template.credential_ref}", which this version cannot do`;
  return undefined;
}

function credentialsOf(
  principal: UserId,
  template: Template,
  snapshot: Snapshot,
): { readonly ciphertext: string } | { readonly reason: string } {
  const event = snapshot.states.room(snapshot.configRoom)?.get(eventTypes.credentials, stateKeyOf(principal));
  if (event === undefined || isCleared(event.content))
    return { reason: `There are no credentials for ${principal}` };
  try {
    const credentials = parse(CredentialsSchema, event.content, `credentials of ${principal}`);
    if (credentials.principal !== principal)
      return { reason: `The credentials of ${principal} belong to ${credentials.principal}` };
    const lacking = (template.required_credentials ?? []).filter(
      (key) => !(credentials.keys ?? []).includes(key),
    );
    if (lacking.length > 0)
      return {
        reason: `The credentials of ${principal} lack ${lacking.map((key) => `"${key}"`).join(", ")}`,
      };
    return { ciphertext: credentials.ciphertext };
  } catch (error) {
    if (error instanceof InputError) return { reason: error.message };
    throw error;
  }
}

function wantedSandbox(
  spec: SandboxSpec,
  ciphertext: string,
  assignment: PrincipalAssignment,
  authorization: AuthorizationIndex,
  trigger: string | undefined,
): WantedSandbox {
  const { payload, ...structure } = spec;
  const structural = digestOf(structure);
  const payloadDigest = digestOf(payload ?? {});
  const grants = grantsOf(authorization.policyOf(assignment.principal));
  return {
    spec,
    digests: { spec: specDigest(structural, digestOf(ciphertext)), payload: payloadDigest },
    credentials: ciphertext,
    grants,
    grantsDigest: digestOf(grants),
    trigger,
  };
}
