/**
 * The state of one proxy: its principal's credentials, upstreams and grants. No other module holds secrets.
 *
 * The admin socket replaces each part as a whole and never edits it, so that a request sees either the old or the new
 * one. Only {@link ProxyState.credentialFor} and {@link ProxyState.matrixAccess} return values of credentials, for the
 * headers of one upstream request.
 */
import { BureauError, messageOf } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import { checkGrants, type Decision, type Grant, grantedTargets } from "@bureau/schema/authorization";
import { anyGlobMatches } from "@bureau/schema/glob";
import { isOAuthCredential } from "@bureau/schema/oauth-credential";
import type { DirectoryEntry, ProxyStartSchema } from "@bureau/schema/proxy-wire";
import type { UserId } from "@bureau/schema/refs";
import type { InferOutput } from "valibot";
import { InFlight } from "./in-flight.ts";
import { OAuthToken } from "./oauth-token.ts";
import { Refusals } from "./refusals.ts";
import { type DeclaredUpstream, parseUpstream, type UpstreamInput } from "./upstream.ts";
import { parseHomeserver } from "./upstream-url.ts";

/** Keys of a bundle for the proxy itself; it never sends them to an upstream (wire facts, section 3.6). */
const matrixKeys = {
  token: "MATRIX_TOKEN",
  userId: "MATRIX_USER_ID",
  homeserver: "MATRIX_HOMESERVER_URL",
} as const;

export type MatrixAccess = { readonly homeserver: string; readonly authorization: string };

export class ProxyState {
  readonly upstreams = new Map<string, DeclaredUpstream>();
  readonly inFlight = new InFlight();
  /** Open ones: they take no place among the runtime's requests. */
  readonly webSockets = new InFlight();
  readonly refusals: Refusals;
  directory: readonly DirectoryEntry[] = [];
  readonly userId: UserId | undefined;
  readonly #now: () => number;
  /** One object until the grants are replaced: the evaluator keeps what it read of a policy with it. */
  #policy: { readonly grants: Grant[] } = { grants: [] };
  #credentials: ReadonlyMap<string, Secret> = new Map();
  /** Of the credentials that are refresh tokens, once they are used. */
  readonly #oauth = new WeakMap<Secret, OAuthToken>();
  #matrix: { readonly homeserver: string | undefined; readonly authorization: Secret | undefined };

  /** @throws BureauError `invalid-input` when an upstream or the homeserver's URL is invalid */
  constructor(
    start: InferOutput<typeof ProxyStartSchema>,
    now: () => number = Date.now,
    poke: () => void = () => {},
  ) {
    this.#now = now;
    this.refusals = new Refusals(poke, now);
    this.userId = start.matrix_user_id;
    this.grants = start.grants ?? [];
    this.#credentials = secrets(start.credentials ?? {}, this.#credentials);
    this.#matrix = {
      homeserver:
        start.matrix_homeserver_url === undefined ? undefined : parseHomeserver(start.matrix_homeserver_url),
      authorization: start.matrix_token === undefined ? undefined : bearer(start.matrix_token),
    };
    for (const [name, declared] of Object.entries(start.services ?? {}))
      this.putUpstream(name, { ...declared, upstream_url: declared.upstream });
  }

  get grants(): readonly Grant[] {
    return this.#policy.grants;
  }

  set grants(grants: readonly Grant[]) {
    this.#policy = { grants: [...grants] };
  }

  /** Adds or replaces an upstream. @throws BureauError `invalid-input`, with nothing changed */
  putUpstream(name: string, input: UpstreamInput): DeclaredUpstream {
    const upstream = parseUpstream(name, input);
    this.upstreams.set(name, upstream);
    return upstream;
  }

  /**
   * Replaces every credential, including the Matrix token. Keeps the homeserver when `values` has none.
   * @throws BureauError `invalid-input`, with nothing changed
   */
  replaceCredentials(values: Readonly<Record<string, string>>): void {
    const homeserver = values[matrixKeys.homeserver];
    const token = values[matrixKeys.token];
    const matrix = {
      homeserver: homeserver === undefined ? this.#matrix.homeserver : parseHomeserver(homeserver),
      authorization: token === undefined ? undefined : bearer(token),
    };
    const { [matrixKeys.token]: _t, [matrixKeys.userId]: _u, [matrixKeys.homeserver]: _h, ...rest } = values;
    this.#credentials = secrets(rest, this.#credentials);
    this.#matrix = matrix;
  }

  /** The homeserver, and the authorization header for it. @throws BureauError `unauthorized` when either is missing */
  matrixAccess(): MatrixAccess {
    const { homeserver, authorization } = this.#matrix;
    if (homeserver === undefined)
      throw new BureauError("unauthorized", "Cannot reach Matrix: this proxy has no homeserver");
    if (authorization === undefined)
      throw new BureauError("unauthorized", "Cannot reach Matrix: this principal has no MATRIX_TOKEN", {
        hint: "provision the principal's credentials",
      });
    return { homeserver, authorization: authorization.reveal() };
  }

  /** The value for an injected header. @throws BureauError `unauthorized`, naming header and key, never the value */
  credentialFor(upstream: string, header: string, key: string): string {
    const value = this.#credentials.get(key)?.reveal();
    const refuse = (reason: string): BureauError =>
      new BureauError("unauthorized", `Cannot set header "${header}" of upstream "${upstream}": ${reason}`, {
        hint: `provision the credential "${key}"`,
      });
    // A refresh token is for its token endpoint alone.
    if (value !== undefined && isOAuthCredential(value)) throw refuse(`"${key}" is a refresh token`);
    if (value === undefined) throw refuse(`this principal has no credential "${key}"`);
    if (!isHeaderValue(value)) throw refuse(`credential "${key}" has characters that a header cannot carry`);
    return value;
  }

  /** The access token of a credential that is an OAuth refresh token. @throws BureauError `unauthorized` when it is invalid */
  oauthOf(key: string): OAuthToken | undefined {
    const secret = this.#credentials.get(key);
    if (secret === undefined) return undefined;
    const known = this.#oauth.get(secret);
    if (known !== undefined || !isOAuthCredential(secret.reveal())) return known;
    try {
      const token = new OAuthToken(key, secret.reveal(), this.#now);
      this.#oauth.set(secret, token);
      return token;
    } catch (error) {
      throw new BureauError("unauthorized", messageOf(error), {
        hint: `provision the credential "${key}" again`,
      });
    }
  }

  /** Decides whether the principal may now do `action` on itself. */
  check(action: string): Decision {
    return checkGrants([this.#policy], action, undefined, this.#now());
  }

  /** Directory entries the principal may discover: targets of unexpired `service/discover` grants (section 7.2). */
  discoverable(): DirectoryEntry[] {
    const targets = grantedTargets(this.grants, "service/discover", this.#now());
    return this.directory.filter((entry) => anyGlobMatches(targets, entry.localpart));
  }
}

/** An unchanged value keeps its secret, and with it an access token that is still valid. */
const secrets = (
  values: Readonly<Record<string, string>>,
  before: ReadonlyMap<string, Secret>,
): ReadonlyMap<string, Secret> =>
  new Map(
    Object.entries(values).map(([name, value]) => {
      const kept = before.get(name);
      return [name, kept?.reveal() === value ? kept : new Secret(value)];
    }),
  );

function bearer(token: string): Secret {
  if (token === "" || !isHeaderValue(token))
    throw new BureauError(
      "invalid-input",
      "the Matrix token is empty or has characters a header cannot carry",
    );
  return new Secret(`Bearer ${token}`);
}

/** Visible ASCII, space, tab and Latin-1 (RFC 9110, section 5.5). */
const isHeaderValue = (value: string): boolean => /^[\t\x20-\x7e\x80-\xff]*$/u.test(value);
