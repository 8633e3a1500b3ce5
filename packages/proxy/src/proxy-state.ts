/**
 * What one proxy knows: whose credentials, which services, which grants. The only module that holds secrets.
 *
 * Each part is replaced as a whole by the admin socket, never edited, so that a request sees either the old or the new.
 * Values of credentials leave through {@link ProxyState.credentialFor} and {@link ProxyState.matrixAccess} alone, into
 * the headers of one upstream request.
 */
import { BureauError } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import { checkGrants, type Decision, type Grant } from "@bureau/schema/authorization";
import { anyGlobMatches } from "@bureau/schema/glob";
import type { DirectoryEntry, ProxyStartSchema } from "@bureau/schema/proxy-wire";
import type { UserId } from "@bureau/schema/refs";
import type { InferOutput } from "valibot";
import { InFlight } from "./in-flight.ts";
import { parseService, type Service, type ServiceInput } from "./upstream.ts";
import { parseHomeserver } from "./upstream-url.ts";

/** Keys of a bundle that are the proxy's own and are never injected into a service (wire facts, section 3.6). */
const matrixKeys = {
  token: "MATRIX_TOKEN",
  userId: "MATRIX_USER_ID",
  homeserver: "MATRIX_HOMESERVER_URL",
} as const;

export type MatrixAccess = { readonly homeserver: string; readonly authorization: string };

export class ProxyState {
  readonly services = new Map<string, Service>();
  readonly inFlight = new InFlight();
  grants: readonly Grant[];
  directory: readonly DirectoryEntry[] = [];
  readonly userId: UserId | undefined;
  readonly #now: () => number;
  #credentials: ReadonlyMap<string, Secret> = new Map();
  #matrix: { readonly homeserver: string | undefined; readonly authorization: Secret | undefined };

  /** @throws BureauError `invalid-input` when a service or the homeserver's URL is unusable */
  constructor(start: InferOutput<typeof ProxyStartSchema>, now: () => number = Date.now) {
    this.#now = now;
    this.userId = start.matrix_user_id;
    this.grants = start.grants ?? [];
    this.#credentials = secrets(start.credentials ?? {});
    this.#matrix = {
      homeserver:
        start.matrix_homeserver_url === undefined ? undefined : parseHomeserver(start.matrix_homeserver_url),
      authorization: start.matrix_token === undefined ? undefined : bearer(start.matrix_token),
    };
    for (const [name, service] of Object.entries(start.services ?? {}))
      this.putService(name, { ...service, upstream_url: service.upstream });
  }

  /** Adds or replaces a service. @throws BureauError `invalid-input`; then nothing has changed */
  putService(name: string, input: ServiceInput): Service {
    const service = parseService(name, input);
    this.services.set(name, service);
    return service;
  }

  /**
   * Replaces every credential, the Matrix token among them; the homeserver stays when none is named.
   * @throws BureauError `invalid-input`; then nothing has changed
   */
  replaceCredentials(values: Readonly<Record<string, string>>): void {
    const homeserver = values[matrixKeys.homeserver];
    const token = values[matrixKeys.token];
    const matrix = {
      homeserver: homeserver === undefined ? this.#matrix.homeserver : parseHomeserver(homeserver),
      authorization: token === undefined ? undefined : bearer(token),
    };
    const { [matrixKeys.token]: _t, [matrixKeys.userId]: _u, [matrixKeys.homeserver]: _h, ...rest } = values;
    this.#credentials = secrets(rest);
    this.#matrix = matrix;
  }

  /** The homeserver and the header that opens it. @throws BureauError `unauthorized` when either is missing */
  matrixAccess(): MatrixAccess {
    const { homeserver, authorization } = this.#matrix;
    if (homeserver === undefined)
      throw new BureauError("unauthorized", "Cannot reach Matrix: this proxy was given no homeserver");
    if (authorization === undefined)
      throw new BureauError("unauthorized", "Cannot reach Matrix: this principal has no MATRIX_TOKEN", {
        hint: "provision the principal's credentials",
      });
    return { homeserver, authorization: authorization.reveal() };
  }

  /** The value for an injected header. @throws BureauError `unauthorized`, naming header and key, never the value */
  credentialFor(service: string, header: string, key: string): string {
    const value = this.#credentials.get(key)?.reveal();
    const refuse = (reason: string): BureauError =>
      new BureauError("unauthorized", `Cannot set header "${header}" of service "${service}": ${reason}`, {
        hint: `provision the credential "${key}"`,
      });
    if (value === undefined) throw refuse(`this principal has no credential "${key}"`);
    if (!isHeaderValue(value)) throw refuse(`credential "${key}" has characters that a header cannot carry`);
    return value;
  }

  /** May the principal do `action`, an act on itself, now? */
  check(action: string): Decision {
    return checkGrants({ grants: [...this.grants] }, action, undefined, this.#now());
  }

  /** Directory entries the principal may discover: targets of live `service/discover` grants (section 7.2). */
  discoverable(): DirectoryEntry[] {
    const now = this.#now();
    const targets = this.grants
      .filter((grant) => checkGrants({ grants: [grant] }, "service/discover", undefined, now).allowed)
      .flatMap((grant) => grant.targets ?? []);
    return this.directory.filter((entry) => anyGlobMatches(targets, entry.localpart));
  }
}

const secrets = (values: Readonly<Record<string, string>>): ReadonlyMap<string, Secret> =>
  new Map(Object.entries(values).map(([name, value]) => [name, new Secret(value)]));

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
