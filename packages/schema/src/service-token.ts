/**
 * The content of service tokens and of the messages that a daemon signs for services (wire facts, sections 6.4 and 6.5),
 * and which grants a token carries. Pure: `kit/signed-message` has the bytes.
 *
 * A token says who calls, from which machine, for which role, and what the caller may do there. A service needs nothing
 * else to decide.
 */
import * as v from "valibot";
import { type AuthorizationPolicy, expiryOf, type Grant } from "./authorization.ts";
import { anyGlobMatches, globMatches, userPatternMatcher } from "./glob.ts";
import { ref } from "./parse.ts";
import { parseUserId, type UserId } from "./refs.ts";

/** Lifetime of a token, and the age at which it is replaced (wire facts, section 12.1). */
export const TOKEN_SECONDS = 300;
export const TOKEN_REFRESH_SECONDS = 240;

const seconds = v.pipe(v.number(), v.safeInteger());
const grants = v.array(
  v.pipe(
    v.object({ 1: v.array(v.string()), 2: v.optional(v.array(v.string()), []) }),
    v.transform(({ 1: actions, 2: targets }) => ({ actions, targets })),
  ),
);

/** Decoded CBOR, whose integer keys are decimal text. */
export const ServiceTokenSchema = v.pipe(
  v.object({
    1: ref(parseUserId),
    2: ref(parseUserId),
    3: v.string(),
    4: v.optional(v.nullable(grants)),
    5: v.optional(v.string(), ""),
    6: seconds,
    7: seconds,
    8: v.optional(v.string()),
  }),
  v.transform((content) => ({
    subject: content[1],
    machine: content[2],
    audience: content[3],
    grants: content[4] ?? [],
    id: content[5],
    issuedAt: content[6],
    expiresAt: content[7],
    project: content[8],
  })),
);

/** What a grant in a token says: action globs, and globs of target localparts. */
export type TokenGrant = { readonly actions: readonly string[]; readonly targets: readonly string[] };

export type ServiceToken = {
  readonly subject: UserId;
  /** Whose key signs it. */
  readonly machine: UserId;
  /** The role it is for. */
  readonly audience: string;
  readonly grants: readonly TokenGrant[];
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** Seconds since the epoch. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly project?: string | undefined;
};

/** The map that is encoded: integer keys, and none for an empty value. */
export function tokenContent(token: ServiceToken): Map<number, unknown> {
  const list = token.grants.map(
    ({ actions, targets }) =>
      new Map<number, unknown>(
        targets.length === 0
          ? [[1, actions]]
          : [
              [1, actions],
              [2, targets],
            ],
      ),
  );
  const fields: [number, unknown][] = [
    [1, token.subject],
    [2, token.machine],
    [3, token.audience],
    [4, list.length === 0 ? undefined : list],
    [5, token.id],
    [6, token.issuedAt],
    [7, token.expiresAt],
    [8, token.project],
  ];
  return new Map(fields.filter(([, value]) => value !== undefined && value !== ""));
}

/** May the bearer do `action`, to the principal with the localpart `target` when there is one? */
export const tokenPermits = (token: ServiceToken, action: string, target?: string): boolean =>
  token.grants.some(
    ({ actions, targets }) =>
      anyGlobMatches(actions, action) && (target === undefined || anyGlobMatches(targets, target)),
  );

/** The grants that a token for `role` carries, and when the first of them ends (Infinity: none does). */
export type RoleGrants = { readonly grants: TokenGrant[]; readonly endsAtMs: number };

/**
 * What `policy` grants in the namespace of `role`, at `nowMs`. A token has no denials, so a denial takes out every pattern
 * that has an action in common with it, for all targets: a token never permits more than the policy. A target of a policy
 * names a user; one with a server is kept when `server` matches, as its localpart.
 */
export function roleGrants(
  policy: AuthorizationPolicy,
  role: string,
  server: string,
  nowMs: number,
): RoleGrants {
  const denied = (policy.denials ?? []).flatMap(({ actions }) => actions ?? []);
  const kept: TokenGrant[] = [];
  let endsAtMs = Number.POSITIVE_INFINITY;
  for (const grant of policy.grants ?? []) {
    const actions = (grant.actions ?? []).filter(
      (pattern) => isOfRole(pattern, role) && !denied.some((denial) => mayOverlap(denial, pattern)),
    );
    const ends = expiryOf(grant);
    if (actions.length === 0 || ends <= nowMs) continue;
    endsAtMs = Math.min(endsAtMs, ends);
    kept.push({ actions, targets: targetLocalparts(grant, server) });
  }
  return { grants: kept, endsAtMs };
}

/** Wire facts, section 6.4, "Role filter". */
const isOfRole = (pattern: string, role: string): boolean =>
  pattern === role || pattern.startsWith(`${role}/`) || globMatches(pattern, `${role}/x`);

function targetLocalparts({ targets }: Grant, server: string): string[] {
  return (targets ?? []).flatMap((pattern) => {
    const colon = pattern.lastIndexOf(":");
    if (colon < 0) return [pattern];
    // The server part alone, by the rules of user patterns.
    const isOurs = userPatternMatcher(`x${pattern.slice(colon)}`)(`@x:${server}`);
    return isOurs ? [pattern.slice(0, colon)] : [];
  });
}

/** False only when no action matches both patterns. */
function mayOverlap(a: string, b: string): boolean {
  const [fixedA, fixedB] = [fixedPart(a), fixedPart(b)];
  if (fixedA === a) return globMatches(b, a);
  if (fixedB === b) return globMatches(a, b);
  // `x/**` matches `x` too.
  const [stemA, stemB] = [fixedA.replace(/\/$/u, ""), fixedB.replace(/\/$/u, "")];
  return stemA.startsWith(stemB) || stemB.startsWith(stemA);
}

/** What stands before the first wildcard. */
function fixedPart(pattern: string): string {
  const at = pattern.search(/[*?[\\]/u);
  return at < 0 ? pattern : pattern.slice(0, at);
}

/** One revoked token. A service forgets it when the token has expired anyway. */
export type RevokedToken = { readonly id: string; readonly expiresAt: number };

export const RevocationSchema = v.pipe(
  v.object({
    1: v.pipe(
      v.array(
        v.pipe(
          v.object({ 1: v.pipe(v.string(), v.minLength(1)), 2: seconds }),
          v.transform(({ 1: id, 2: expiresAt }): RevokedToken => ({ id, expiresAt })),
        ),
      ),
      v.minLength(1),
    ),
    2: seconds,
  }),
  v.transform(({ 1: entries, 2: issuedAt }) => ({ entries, issuedAt })),
);

export const revocationContent = (entries: readonly RevokedToken[], issuedAt: number): Map<number, unknown> =>
  new Map<number, unknown>([
    [
      1,
      entries.map(
        ({ id, expiresAt }) =>
          new Map<number, unknown>([
            [1, id],
            [2, expiresAt],
          ]),
      ),
    ],
    [2, issuedAt],
  ]);

/** The state of a machine's key in the system room. */
export const TokenSigningKeySchema = v.object({
  public_key: v.pipe(
    v.string(),
    v.regex(/^[0-9a-f]{64}$/u, "it is not the hexadecimal form of an Ed25519 key"),
  ),
  machine: ref(parseUserId),
});
