/** One upstream a principal may call as `/http/<name>/…`: parsed once, so that the hot path only copies headers. */
import { BureauError } from "@bureau/kit/errors";
import { hopByHop } from "./forward.ts";
import { KeptSocket } from "./kept-socket.ts";
import { parseBase } from "./upstream-url.ts";

export type UpstreamInput = {
  readonly upstream_url?: string | undefined;
  readonly upstream_unix?: string | undefined;
  readonly inject_headers?: Readonly<Record<string, string>> | undefined;
  readonly strip_headers?: readonly string[] | undefined;
  readonly auth_scheme?: string | undefined;
  readonly response_interceptors?: readonly unknown[] | undefined;
};

export type DeclaredUpstream = {
  readonly name: string;
  /** Origin and path prefix, no trailing slash. */
  readonly base: string;
  /** The unix socket to connect to instead of the URL's host. */
  readonly socket: KeptSocket | undefined;
  readonly inject: readonly {
    readonly header: string;
    readonly key: string;
    /** The header's value from the credential's. */
    readonly render: (credential: string) => string;
  }[];
  /** Lower-case names of the headers that the caller may not set. */
  readonly strip: readonly string[];
  /** True when it declares response interceptors, which this proxy does not run. */
  readonly interceptorsIgnored: boolean;
};

/** The name of the built-in Matrix gateway: no declared upstream may have it. */
export const reservedUpstream = "matrix";

/** @throws BureauError `invalid-input` */
export function parseUpstream(name: string, input: UpstreamInput): DeclaredUpstream {
  const fail = (rule: string): BureauError =>
    new BureauError("invalid-input", `Invalid upstream "${name}": ${rule}`);
  if (name === reservedUpstream) throw fail("the built-in Matrix gateway has this name");
  if (!/^[A-Za-z0-9._=:@-]+$/u.test(name) || name === "." || name === "..")
    throw fail("a name may contain only letters, digits and . _ = : @ -");
  if (input.upstream_unix !== undefined && !input.upstream_unix.startsWith("/"))
    throw fail("upstream_unix must be an absolute path");
  if (input.upstream_url === undefined && input.upstream_unix === undefined)
    throw fail("upstream_url and upstream_unix are both missing");
  const scheme = input.auth_scheme ?? "";
  const render = authorizationOf(scheme);
  if (render === undefined) throw fail(`auth_scheme "${scheme}" is unknown; there are bearer and basic:USER`);
  const inject = Object.entries(input.inject_headers ?? {}).map(([header, key]) => {
    const lower = header.toLowerCase();
    if (!isHeaderName(lower)) throw fail(`"${header}" is not a header name`);
    if (hopByHop.has(lower) || lower === "host" || lower === "content-length")
      throw fail(`the header "${header}" belongs to the connection, so it cannot be injected`);
    return { header, key, render: lower === "authorization" ? render : plain };
  });
  const strip = (input.strip_headers ?? []).map((header) => header.toLowerCase());
  const bad = strip.find((header) => !isHeaderName(header));
  if (bad !== undefined) throw fail(`"${bad}" is not a header name`);
  return {
    name,
    base: parseBase(input.upstream_url ?? "http://localhost"),
    socket: input.upstream_unix === undefined ? undefined : new KeptSocket(input.upstream_unix),
    inject,
    strip: [...new Set([...strip, ...inject.map(({ header }) => header.toLowerCase())])],
    interceptorsIgnored: (input.response_interceptors ?? []).length > 0,
  };
}

const plain = (credential: string): string => credential;

/** Undefined for an unknown scheme. */
function authorizationOf(scheme: string): ((credential: string) => string) | undefined {
  if (scheme === "") return plain;
  if (scheme.toLowerCase() === "bearer") return (credential) => `Bearer ${credential}`;
  const user = /^basic:([^:]+)$/iu.exec(scheme)?.[1];
  if (user === undefined) return undefined;
  return (credential) => `Basic ${Buffer.from(`${user}:${credential}`).toString("base64")}`;
}

/** The address of an upstream, for people: its URL or `unix:PATH`. */
export const addressOf = (upstream: DeclaredUpstream): string =>
  upstream.socket === undefined ? upstream.base : `unix:${upstream.socket.path}`;

const isHeaderName = (text: string): boolean => /^[!#$%&'*+\-.^_`|~0-9a-z]+$/u.test(text);
