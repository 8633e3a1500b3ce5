/** The evaluator against one that was written apart from it: random policies, users, actions and times. */
import { expect, test } from "bun:test";
import type { Allowance, AuthorizationPolicy, Grant } from "./authorization.ts";
import { AuthorizationIndex, type PolicySource } from "./authorization-index.ts";
import { parseUserId, type UserId } from "./refs.ts";

const CASES = 100_000;
/** Questions for each random machine: making one costs more than asking it. */
const QUESTIONS = 50;

const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
let state = seed;
/** Mulberry32: the low bits of a plain linear congruence repeat too soon for questions in groups. */
const random = (below: number): number => {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
};
const one = <T>(items: readonly T[]): T => items[random(items.length)] as T;
const some = <T>(make: () => T, max: number): T[] => Array.from({ length: random(max + 1) }, make);

const users: UserId[] = ["b/agent/a", "b/agent/b", "b/agent/sub/c", "b/service/x", "ann"].flatMap((name) => [
  parseUserId(`@${name}:s`),
  parseUserId(`@${name}:other.org`),
]);
const actions = [
  "observe",
  "observe/read-write",
  "interrupt",
  "interrupt/terminate",
  "fleet/info",
  "matrix/join",
];
const actionPatterns = [
  ...actions,
  "**",
  "observe/**",
  "interrupt/**",
  "*",
  "*/*",
  "fleet/*",
  "x/**",
  "[",
  "**/join",
];
const userPatterns = [
  ...[
    "**:*",
    "b/**:s",
    "b/agent/*:*",
    "b/agent/**:other.org",
    "ann:s",
    "ann",
    "**",
    "*:*",
    "b/agent/?:s",
    "**/c:*",
  ],
  "b/**/c:s",
  "",
];
const times = ["2026-01-01T00:00:00Z", "2026-06-01T00:00:00+02:00", "2027-01-01T00:00:00Z", "soon"];
const nows = times.slice(0, 3).flatMap((text) => [-1, 0, 1].map((by) => Date.parse(text) + by));

const grant = (): Grant => ({
  actions: some(() => one(actionPatterns), 2),
  ...(random(4) === 0 ? {} : { targets: some(() => one(userPatterns), 2) }),
  ...(random(3) === 0 ? { expires_at: one(times) } : {}),
});
const allowance = (): Allowance => ({
  actions: some(() => one(actionPatterns), 2),
  actors: some(() => one(userPatterns), 2),
});
const policy = (): AuthorizationPolicy => ({
  grants: some(grant, 3),
  ...(random(2) === 0 ? { denials: some(grant, 3) } : {}),
  allowances: some(allowance, 3),
  ...(random(2) === 0 ? { allowance_denials: some(allowance, 3) } : {}),
});

/** By regular expression: a second reading of the wire's table. */
function naiveGlob(pattern: string, value: string): boolean {
  if (pattern === "**") return value !== "";
  if (pattern.includes("[") || (pattern.match(/\*\*/gu) ?? []).length > 1) return false;
  const plain = (text: string): string =>
    text
      .replaceAll(/[.+^${}()|\]\\]/gu, "\\$&")
      .replaceAll("*", "[^/]*")
      .replaceAll("?", "[^/]");
  const source = pattern.endsWith("/**")
    ? `${plain(pattern.slice(0, -3))}(/[^/]+)*`
    : pattern.startsWith("**/")
      ? `([^/]+/)*${plain(pattern.slice(3))}`
      : pattern.includes("/**/")
        ? pattern.split("/**/").map(plain).join("/([^/]+/)*")
        : plain(pattern);
  return new RegExp(`^${source}$`, "u").test(value);
}

function naiveUser(pattern: string, user: string): boolean {
  const parts = /^(.*):([^:]*)$/u.exec(pattern);
  const [, name = "", server = ""] = /^@([^:]*):(.*)$/u.exec(user) ?? [];
  return parts !== null && naiveGlob(parts[2] ?? "", server) && naiveGlob(parts[1] ?? "", name);
}

/** One flat list of rules for each side, filtered step by step. */
function naive(
  policies: readonly (readonly [UserId, AuthorizationPolicy])[],
  actor: UserId,
  action: string,
  target: UserId | undefined,
  now: number,
): string {
  const names = (rule: { actions: readonly string[] }) =>
    rule.actions.some((glob) => naiveGlob(glob, action));
  const of = (user: UserId | undefined) =>
    policies.filter(([owner]) => owner === user).map(([, rules]) => rules);
  const onTarget = (rule: { targets?: string[] | undefined }) =>
    target === undefined || (rule.targets ?? []).some((pattern) => naiveUser(pattern, target));
  const byActor = (rule: Allowance) => rule.actors.some((pattern) => naiveUser(pattern, actor));
  const live = (rule: Grant) =>
    rule.expires_at === undefined || (rule.expires_at !== "soon" && now < Date.parse(rule.expires_at));
  if (!action.startsWith("observe")) {
    const grants = of(actor).flatMap((rules) => rules.grants ?? []);
    const matching = grants.filter((rule) => names(rule) && onTarget(rule));
    if (matching.length === 0) return "no matching grant";
    if (!matching.some(live)) return "matching grant expired";
    const denials = of(actor).flatMap((rules) => rules.denials ?? []);
    if (denials.some((rule) => names(rule) && onTarget(rule))) return "explicit denial";
    if (target === undefined) return "allowed";
  }
  const allowances = of(target).flatMap((rules) => rules.allowances ?? []);
  if (!allowances.some((rule) => names(rule) && byActor(rule))) return "no matching allowance on target";
  const denials = of(target).flatMap((rules) => rules.allowance_denials ?? []);
  return denials.some((rule) => names(rule) && byActor(rule))
    ? "explicit allowance denial on target"
    : "allowed";
}

test(`agrees with a naive evaluator in ${CASES} random cases (BUREAU_SEED=${seed})`, () => {
  const counts = new Map<string, number>();
  for (let asked = 0; asked < CASES; asked += QUESTIONS) {
    const owned = Array.from({ length: 4 + random(20) }, () => [one(users), policy()] as const);
    const sources = owned.map(
      ([user, rules], at): PolicySource => ({
        name: at % 2 === 0 ? "principal" : "machine-default",
        users: new Set([user]),
        policiesOf: (asking) => (asking === user ? [rules] : []),
      }),
    );
    const index = new AuthorizationIndex(sources);
    for (let question = 0; question < QUESTIONS; question++) {
      const [actor, action, now] = [one(users), one(actions), one(nows)];
      const target = random(4) === 0 ? undefined : one(users);
      const decision = index.authorize(actor, action, target, now);
      const said = decision.allowed ? "allowed" : decision.reason;
      const expected = naive(owned, actor, action, target, now);
      if (said !== expected)
        expect({ seed, asked, actor, action, target, now, owned, said }).toEqual({ said: expected } as never);
      counts.set(said, (counts.get(said) ?? 0) + 1);
    }
  }
  // Each outcome is frequent enough to mean something.
  expect([...counts.keys()]).toHaveLength(6);
  for (const count of counts.values()) expect(count).toBeGreaterThan(100);
});
