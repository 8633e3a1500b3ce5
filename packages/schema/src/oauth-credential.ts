/**
 * A credential that is an OAuth 2 refresh token: JSON in place of a plain value. The proxy exchanges it for short-lived
 * access tokens (RFC 6749, section 6), and injects these.
 *
 * ```
 * {"oauth_refresh": {"token_endpoint": "https://auth.example/token", "client_id": "…", "refresh_token": "…"}}
 * ```
 */
import * as v from "valibot";

const filled = v.pipe(v.string(), v.minLength(1));

/** A token must not cross a network in clear; a server of this host is reached without one. */
const tokenEndpoint = v.pipe(
  v.string(),
  v.check((text) => {
    const url = URL.parse(text);
    const isHere = url !== null && /^(?:localhost|127\.0\.0\.1|\[::1\])$/u.test(url.hostname);
    return (
      url !== null &&
      url.username === "" &&
      (url.protocol === "https:" || (url.protocol === "http:" && isHere))
    );
  }, "token_endpoint must be an https URL"),
);

const OAuthRefreshSchema = v.object({
  token_endpoint: tokenEndpoint,
  client_id: filled,
  client_secret: v.optional(filled),
  refresh_token: filled,
  scope: v.optional(filled),
});
export type OAuthRefresh = v.InferOutput<typeof OAuthRefreshSchema>;
export const OAuthCredentialSchema = v.object({ oauth_refresh: OAuthRefreshSchema });

/** True for a value that claims to be one, also when it is invalid: it must not be used as a plain value. */
export function isOAuthCredential(value: string): boolean {
  if (!value.trimStart().startsWith("{")) return false;
  try {
    return Object.hasOwn(JSON.parse(value), "oauth_refresh");
  } catch {
    return false;
  }
}

/** The answer of a token endpoint (RFC 6749, section 5.1). */
export const TokenAnswerSchema = v.object({
  access_token: v.pipe(filled, v.regex(/^[\x21-\x7e]+$/u)),
  token_type: v.optional(v.pipe(v.string(), v.regex(/^bearer$/iu))),
  /** Seconds. */
  expires_in: v.optional(v.pipe(v.number(), v.minValue(0))),
  /** Replaces the one that was sent. */
  refresh_token: v.optional(filled),
});
