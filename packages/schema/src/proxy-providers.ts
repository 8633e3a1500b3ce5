/**
 * Upstreams that a template can name instead of spelling them: `"provider": "github"` in an entry of `proxy_services`.
 * Fields of the entry itself count before those of the table.
 */
import * as v from "valibot";
import { jsonObject, unset } from "./parse.ts";
import { type ProxyService, proxyServiceFields, upstreamUrl } from "./proxy-service.ts";

type Provider = {
  /** Absent for package registries: which one is used is the person's choice, so the entry says it. */
  readonly upstream?: string;
  readonly header: string;
  readonly scheme?: string;
  /** The credential's name, unless the entry has another. */
  readonly credential: string;
};

/** Each from its vendor's page on authentication. */
const providers = {
  // https://docs.anthropic.com/en/api/overview
  anthropic: { upstream: "https://api.anthropic.com", header: "x-api-key", credential: "ANTHROPIC_API_KEY" },
  // https://platform.openai.com/docs/api-reference/authentication
  openai: {
    upstream: "https://api.openai.com",
    header: "Authorization",
    scheme: "bearer",
    credential: "OPENAI_API_KEY",
  },
  // https://ai.google.dev/api
  gemini: {
    upstream: "https://generativelanguage.googleapis.com",
    header: "x-goog-api-key",
    credential: "GEMINI_API_KEY",
  },
  // https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api
  github: {
    upstream: "https://api.github.com",
    header: "Authorization",
    scheme: "bearer",
    credential: "GITHUB_TOKEN",
  },
  // https://docs.gitlab.com/api/rest/authentication/
  gitlab: { upstream: "https://gitlab.com", header: "PRIVATE-TOKEN", credential: "GITLAB_TOKEN" },
  // npm, "About access tokens": a bearer token.
  npm: {
    header: "Authorization",
    scheme: "bearer",
    credential: "NPM_TOKEN",
  },
  // PyPI, "How can I use API tokens to authenticate with PyPI?": the user name is __token__; reading packages needs no token
  pypi: {
    header: "Authorization",
    scheme: "basic:__token__",
    credential: "PYPI_TOKEN",
  },
} as const satisfies Record<string, Provider>;
type ProviderName = keyof typeof providers;
const providerNames = Object.keys(providers) as [ProviderName, ...ProviderName[]];

function upstreamOf(name: ProviderName | undefined): string | undefined {
  const provider: Provider | undefined = name === undefined ? undefined : providers[name];
  return provider?.upstream;
}

/** What the table says for an entry, beside its upstream. */
function tableFields(name: ProviderName, credential: string | undefined) {
  const provider: Provider = providers[name];
  return {
    inject_headers: { [provider.header]: credential ?? provider.credential },
    ...(provider.scheme === undefined ? {} : { auth_scheme: provider.scheme }),
  };
}

/** An entry of a template's `proxy_services`. The output has every field spelled out, and names no provider. */
export const DeclaredServiceSchema = v.pipe(
  v.object({
    provider: unset(v.picklist(providerNames, `provider must be one of ${providerNames.join(", ")}`)),
    /** The name of the credential that the provider's header carries. */
    credential: unset(v.string()),
    upstream: v.optional(upstreamUrl),
    ...proxyServiceFields,
  }),
  v.check(
    ({ provider, credential }) => provider !== undefined || credential === undefined,
    "credential needs a provider; without one, name the credential in inject_headers",
  ),
  v.check(
    ({ provider, upstream }) => upstream !== undefined || upstreamOf(provider) !== undefined,
    "upstream is missing, and the provider, if any, has no usual one",
  ),
  v.transform(({ provider, credential, upstream = upstreamOf(provider) ?? "", ...own }): ProxyService => {
    if (provider === undefined) return { upstream, ...own };
    return { upstream, ...tableFields(provider, credential), ...withoutUndefined(own) };
  }),
);

const withoutUndefined = <T extends object>(fields: T): Partial<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;

/** A template's content with every entry spelled out beside its provider, for implementations without our table. */
export function withSpelledProviders(
  content: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const services = content["proxy_services"];
  if (!v.is(jsonObject, services)) return content;
  const spelled = Object.entries(services).map(([name, entry]) => [name, spelledOut(entry)]);
  return { ...content, proxy_services: Object.fromEntries(spelled) };
}

function spelledOut(entry: unknown): unknown {
  const isNamed = v.is(jsonObject, entry) && typeof entry["provider"] === "string";
  return isNamed ? Object.assign({}, entry, v.parse(DeclaredServiceSchema, entry)) : entry;
}
