/**
 * The access token of one OAuth credential: fetched when a request needs it, refreshed before it expires, and once more when
 * the upstream answers 401. Requests that need a new token at the same time share one exchange. Nothing of it leaves the
 * proxy but the access token in a header of its upstream.
 *
 * A server that replaces the refresh token at each exchange makes the provisioned one useless: the replacement lives as
 * long as this proxy.
 */
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import { viaNetwork } from "@bureau/os/egress";
import { OAuthCredentialSchema, type OAuthRefresh, TokenAnswerSchema } from "@bureau/schema/oauth-credential";
import { AGENT_BODY_BYTES_MAX, readJsonBody } from "./json-body.ts";
import { parseSecretly } from "./parse-secretly.ts";

/** For the token endpoint to answer. */
const EXCHANGE_MS_MAX = 30_000;
/** Where the answer does not say how long its token is valid. */
const LIFETIME_MS = 300_000;
/** A token is replaced when this is left of its lifetime, or a fifth of it where that is less. */
const MARGIN_MS = 60_000;
/** A failed exchange is not tried again for this long; a token so young is not replaced because of a 401. */
const PAUSE_MS = 10_000;

type Held = { readonly token: Secret; readonly since: number; readonly until: number };

export class OAuthToken {
  /** The credential's name. */
  readonly key: string;
  readonly #source: Omit<OAuthRefresh, "refresh_token" | "client_secret">;
  readonly #clientSecret: Secret | undefined;
  readonly #now: () => number;
  #refreshToken: Secret;
  #held: Held | undefined;
  #failed: { readonly at: number; readonly error: unknown } | undefined;
  #exchanging: Promise<string> | undefined;

  /** `text`: the credential `key`. @throws BureauError `invalid-input`, which quotes nothing of it */
  constructor(key: string, text: string, now: () => number) {
    const { oauth_refresh } = parseSecretly(OAuthCredentialSchema, JSON.parse(text), `credential "${key}"`);
    const { refresh_token, client_secret, ...source } = oauth_refresh;
    this.key = key;
    this.#source = source;
    this.#clientSecret = client_secret === undefined ? undefined : new Secret(client_secret);
    this.#refreshToken = new Secret(refresh_token);
    this.#now = now;
  }

  /** A token that is valid now. @throws BureauError `unauthorized`, `unavailable` */
  async current(): Promise<string> {
    const now = this.#now();
    if (this.#held !== undefined && now < this.#held.until) return this.#held.token.reveal();
    if (this.#failed !== undefined && now < this.#failed.at + PAUSE_MS) throw this.#failed.error;
    this.#exchanging ??= this.#exchange().finally(() => {
      this.#exchanging = undefined;
    });
    return await this.#exchanging;
  }

  /** The upstream refused `token`. False when another one would not help: this one is new. */
  refused(token: string): boolean {
    const held = this.#held;
    if (held === undefined || held.token.reveal() !== token) return true;
    if (this.#now() < held.since + PAUSE_MS) return false;
    this.#held = undefined;
    return true;
  }

  async #exchange(): Promise<string> {
    try {
      const answer = parseSecretly(
        TokenAnswerSchema,
        await this.#ask(),
        `answer for credential "${this.key}"`,
      );
      const since = this.#now();
      const lifetime = answer.expires_in === undefined ? LIFETIME_MS : answer.expires_in * 1_000;
      const until = since + lifetime - Math.min(MARGIN_MS, lifetime / 5);
      this.#held = { token: new Secret(answer.access_token), since, until };
      if (answer.refresh_token !== undefined) this.#refreshToken = new Secret(answer.refresh_token);
      this.#failed = undefined;
      return answer.access_token;
    } catch (error) {
      this.#failed = { at: this.#now(), error };
      throw error;
    }
  }

  async #ask(): Promise<unknown> {
    const { token_endpoint, client_id, scope } = this.#source;
    const secret = this.#clientSecret?.reveal();
    const form = new URLSearchParams({
      grant_type: "refresh_token",
      refresh_token: this.#refreshToken.reveal(),
      client_id,
      ...(secret === undefined ? {} : { client_secret: secret }),
      ...(scope === undefined ? {} : { scope }),
    });
    let response: Response;
    try {
      response = await fetch(token_endpoint, {
        method: "POST",
        headers: { accept: "application/json", "content-type": "application/x-www-form-urlencoded" },
        body: form.toString(),
        redirect: "manual",
        signal: AbortSignal.timeout(EXCHANGE_MS_MAX),
        ...viaNetwork(token_endpoint),
      });
    } catch (error) {
      throw this.#fail("unavailable", errnoOf(error) ?? "it does not answer");
    }
    if (response.ok) return await readJsonBody(response, AGENT_BODY_BYTES_MAX);
    await response.body?.cancel();
    throw this.#fail(response.status < 500 ? "unauthorized" : "unavailable", `it answers ${response.status}`);
  }

  #fail(code: "unauthorized" | "unavailable", reason: string): BureauError {
    const { host } = new URL(this.#source.token_endpoint);
    return new BureauError(
      code,
      `Cannot refresh credential "${this.key}" at the token endpoint of "${host}": ${reason}`,
      code === "unauthorized" ? { hint: `provision the credential "${this.key}" again` } : {},
    );
  }
}
