/**
 * Checks of the authorization index, and the cost of one event to it beside a rebuild.
 *
 * Each principal has 20 rules on both sides, with literal and starred patterns. Questions go round all principals in
 * random order, on others and on themselves. A rebuild parses every assignment, as a daemon does at its start, and answers
 * one question about each. An update parses the one assignment that changed, makes the next index, and answers a
 * question about it. Both are measured in turns; the figure is the least of them.
 */
import { machineIndex } from "@bureau/daemon/authorization/machine-index";
import type { AssignedPolicies } from "@bureau/daemon/authorization/policy-sources";
import { RoomStateStore } from "@bureau/matrix/room-state";
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { PrincipalAssignmentSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { parseRoomId, parseUserId, type UserId } from "@bureau/schema/refs";
import { type Figure, figure } from "./statistics.ts";

const ROUNDS = 9;
const QUESTIONS = 1 << 16;
const UPDATES = 64;
const CHECKS_AIM_PER_SECOND = 2_000_000;
/** An update that reads all principals' rules again gives about 1. */
const UPDATE_RATIO_MAX = 0.25;
const actions = [
  "interrupt",
  "interrupt/terminate",
  "fleet/info",
  "ticket/create",
  "service/discover",
  "observe",
];

const userOf = (at: number): UserId => parseUserId(`@b/fleet/p/agent/team${at % 20}/worker${at}:example.org`);

/** Five rules of each kind. `version` makes the text differ, as a changed event does. */
function assignmentOf(at: number, version = 0): AssignedPolicies {
  const own = Array.from(
    { length: 5 },
    (_, rule) => `b/fleet/p/agent/team${(at + rule) % 20}/**:example.org`,
  );
  const authorization = {
    grants: [
      { actions: ["interrupt/**"], targets: own },
      { actions: ["fleet/*", "ticket/**"], targets: ["**:*"], ticket: `tkt-${version}` },
      { actions: ["service/discover"], targets: ["b/fleet/p/service/*:example.org"] },
      { actions: ["matrix/join"] },
      { actions: ["artifact/**"], targets: ["b/**:*"], expires_at: "2099-01-01T00:00:00Z" },
    ],
    denials: ["interrupt/terminate", "fleet/drain", "matrix/raw-api", "ticket/gc", "credential/**"].map(
      (action, rule) => ({ actions: [action], targets: own.slice(rule) }),
    ),
    allowances: own.map((actor, rule) => ({
      actions: [actions[rule] ?? ""],
      actors: [actor, "ann:example.org"],
    })),
    allowance_denials: ["fleet/drain", "interrupt/kill", "observe/input", "x/**", "artifact/gc"].map(
      (action) => ({
        actions: [action],
        actors: own,
      }),
    ),
  };
  const raw = { principal: userOf(at), template: "bureau/template:base", auto_start: true, authorization };
  return { assignment: parse(PrincipalAssignmentSchema, raw, "assignment") };
}

const rooms = {
  configRoom: parseRoomId("!config"),
  states: new RoomStateStore(),
  members: { of: () => undefined },
};
const indexOf = (assigned: ReadonlyMap<UserId, AssignedPolicies>): AuthorizationIndex =>
  machineIndex(rooms, {}, assigned, () => {}).index;

type Question = readonly [actor: UserId, action: string, target: UserId | undefined];

function questionsOf(users: readonly UserId[]): readonly Question[] {
  const any = <T>(items: readonly T[]): T => items[Math.floor(Math.random() * items.length)] as T;
  return Array.from({ length: QUESTIONS }, () => [
    any(users),
    any(actions),
    Math.random() < 0.2 ? undefined : any(users),
  ]);
}

export async function benchTrustAuthorization(): Promise<Figure[]> {
  return [1_000, 10_000].flatMap(figuresOf);
}

function figuresOf(principals: number): Figure[] {
  const users = Array.from({ length: principals }, (_, at) => userOf(at));
  const assigned = new Map(users.map((user, at) => [user, assignmentOf(at)]));
  const size = `${principals} principals × 20 rules`;
  const questions = questionsOf(users);
  const perSecond = checksPerSecond(indexOf(assigned), questions);
  const floor = {
    name: "two look-ups in a map of one array for each user",
    value: lookUpsPerSecond(users, questions),
  };
  const { rebuildMs, updateMs } = changeCosts(users, assigned);
  return [
    figure(`authorization, ${size}, checks`, perSecond, "checks/s", floor, `≥ ${CHECKS_AIM_PER_SECOND}`),
    figure(
      `authorization, ${size}, update after one event`,
      updateMs,
      "ms",
      { name: "a rebuild", value: rebuildMs },
      principals === 1_000 ? "≤ 0.01×" : undefined,
      UPDATE_RATIO_MAX,
    ),
  ];
}

function checksPerSecond(index: AuthorizationIndex, questions: readonly Question[]): number {
  const nowMs = Date.now();
  let best = 0;
  let allowed = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    for (const [actor, action, target] of questions)
      if (index.authorize(actor, action, target, nowMs).allowed) allowed++;
    best = Math.max(best, QUESTIONS / ((performance.now() - started) / 1_000));
  }
  const share = allowed / (ROUNDS * QUESTIONS);
  if (share < 0.1 || share > 0.9)
    throw new Error(`${share} of the questions are allowed: the figure means little`);
  return best;
}

/** The floor of an answer that depends on both users: their data must be found and read. */
function lookUpsPerSecond(users: readonly UserId[], questions: readonly Question[]): number {
  const arrays = new Map(users.map((user) => [user, [user.length]]));
  let best = 0;
  let sum = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    for (const [actor, , target] of questions)
      sum += (arrays.get(actor)?.[0] ?? 0) + (target === undefined ? 0 : (arrays.get(target)?.[0] ?? 0));
    best = Math.max(best, QUESTIONS / ((performance.now() - started) / 1_000));
  }
  if (sum === 0) throw new Error("nothing was found");
  return best;
}

function changeCosts(
  users: readonly UserId[],
  assigned: Map<UserId, AssignedPolicies>,
): { readonly rebuildMs: number; readonly updateMs: number } {
  const [first, second] = [userOf(0), userOf(1)];
  let [rebuildMs, updateMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  let version = 1;
  for (let round = 0; round < ROUNDS; round++) {
    let started = performance.now();
    const rebuilt = indexOf(new Map(users.map((user, at) => [user, assignmentOf(at)])));
    for (const user of users) rebuilt.authorize(user, "interrupt", first, 0);
    rebuildMs = Math.min(rebuildMs, performance.now() - started);
    started = performance.now();
    for (let update = 0; update < UPDATES; update++) {
      assigned.set(first, assignmentOf(0, version++));
      const index = indexOf(assigned);
      index.authorize(first, "interrupt", second, 0);
      index.authorize(second, "interrupt", first, 0);
    }
    updateMs = Math.min(updateMs, (performance.now() - started) / UPDATES);
  }
  return { rebuildMs, updateMs };
}

if (import.meta.main) console.log(JSON.stringify(await benchTrustAuthorization(), null, 2));
