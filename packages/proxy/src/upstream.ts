/** One upstream a principal may call as `/http/<name>/…`: parsed once, so that the hot path only copies headers. */
import { BureauError } from "@bureau/kit/errors";
import { hopByHop } from "./forward.ts";
import { parseBase } from "./upstream-url.ts";

export type ServiceInput = {
  readonly upstream_url?: string | undefined;
  readonly upstream_unix?: string | undefined;
  readonly inject_headers?: Readonly<Record<string, string>> | undefined;
  readonly strip_headers?: readonly string[] | undefined;
  readonly auth_scheme?: string | undefined;
  readonly response_interceptors?: readonly unknown[] | undefined;
};

export type Service = {
  readonly name: string;
  /** Origin and path prefix, no trailing slash. */
  readonly base: string;
  /** The unix socket to connect to instead of the URL's host. */
  readonly unix: string | undefined;
  readonly inject: readonly { readonly header: string; readonly key: string; readonly prefix: string }[];
  /** Lower case: what the caller may not set itself. */
  readonly strip: readonly string[];
  /** True: it asked for response interceptors, which this proxy does not run. */
  readonly interceptorsIgnored: boolean;
};

/** The built-in gateway's name; no service may take it. */
export const reservedService = "matrix";

/** @throws BureauError `invalid-input` */
export function parseService(name: string, input: ServiceInput): Service {
  const fail = (rule: string): BureauError =>
    new BureauError("invalid-input", `Invalid proxy service "${name}": ${rule}`);
  if (name === reservedService) throw fail("the name is the built-in Matrix gateway's");
  if (!/^[A-Za-z0-9._=:@-]+$/u.test(name) || name === "." || name === "..")
    throw fail("a name has only letters, digits and . _ = : @ -");
  if (input.upstream_unix !== undefined && !input.upstream_unix.startsWith("/"))
    throw fail("upstream_unix must be an absolute path");
  if (input.upstream_url === undefined && input.upstream_unix === undefined)
    throw fail("it needs upstream_url or upstream_unix");
  const scheme = input.auth_scheme ?? "";
  if (scheme !== "" && scheme.toLowerCase() !== "bearer")
    throw fail(`auth_scheme "${scheme}" is not known: bearer is`);
  const inject = Object.entries(input.inject_headers ?? {}).map(([header, key]) => {
    const lower = header.toLowerCase();
    if (!isHeaderName(lower)) throw fail(`"${header}" is not a header name`);
    if (hopByHop.has(lower) || lower === "host" || lower === "content-length")
      throw fail(`the header "${header}" belongs to the connection and cannot be injected`);
    return { header, key, prefix: scheme !== "" && lower === "authorization" ? "Bearer " : "" };
  });
  const strip = (input.strip_headers ?? []).map((header) => header.toLowerCase());
  const bad = strip.find((header) => !isHeaderName(header));
  if (bad !== undefined) throw fail(`"${bad}" is not a header name`);
  return {
    name,
    base: parseBase(input.upstream_url ?? "http://localhost"),
    unix: input.upstream_unix,
    inject,
    strip: [...new Set([...strip, ...inject.map(({ header }) => header.toLowerCase())])],
    interceptorsIgnored: (input.response_interceptors ?? []).length > 0,
  };
}

/** What people are shown as the upstream. */
export const upstreamOf = (service: Service): string =>
  service.unix === undefined ? service.base : `unix:${service.unix}`;

const isHeaderName = (text: string): boolean => /^[!#$%&'*+\-.^_`|~0-9a-z]+$/u.test(text);
