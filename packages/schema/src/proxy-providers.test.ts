import { describe, expect, test } from "bun:test";
import { InputError, parse } from "./parse.ts";
import { withSpelledProviders } from "./proxy-providers.ts";
import { type Template, TemplateSchema } from "./template.ts";

const serviceOf = (entry: unknown) =>
  (parse(TemplateSchema, { proxy_services: { s: entry } }, "template") as Template).proxy_services?.["s"];

describe("an upstream by the name of its provider", () => {
  test("has the provider's address and header, and the usual credential", () => {
    expect(serviceOf({ provider: "github" })).toEqual({
      upstream: "https://api.github.com",
      inject_headers: { Authorization: "GITHUB_TOKEN" },
      auth_scheme: "bearer",
    });
    expect(serviceOf({ provider: "anthropic", credential: "MY_KEY" })).toEqual({
      upstream: "https://api.anthropic.com",
      inject_headers: { "x-api-key": "MY_KEY" },
    });
  });

  test("fields of the entry count before the table's", () => {
    expect(
      serviceOf({ provider: "gitlab", upstream: "https://gitlab.internal", strip_headers: ["x"] }),
    ).toEqual({
      upstream: "https://gitlab.internal",
      inject_headers: { "PRIVATE-TOKEN": "GITLAB_TOKEN" },
      strip_headers: ["x"],
    });
  });

  test("an unknown provider, no upstream, or a credential without a header is refused", () => {
    for (const entry of [
      { provider: "other" },
      { provider: "npm" },
      {},
      { upstream: "https://x", credential: "K" },
    ])
      expect(() => serviceOf(entry)).toThrow(InputError);
  });

  test("is published with every field, so that others can read it, and reads the same again", () => {
    for (const provider of ["anthropic", "openai", "gemini", "github", "gitlab", "npm", "pypi"]) {
      const address = provider === "npm" || provider === "pypi" ? { upstream: "https://packages.test" } : {};
      const content = {
        description: "d",
        proxy_services: { s: { provider, credential: "K", ...address }, t: { upstream: "https://t" } },
      };
      const published = withSpelledProviders(content);
      const { s, t } = published["proxy_services"] as Record<string, Record<string, unknown>>;
      expect(t).toEqual({ upstream: "https://t" });
      expect(s).toContainKeys(["upstream", "inject_headers"]);
      expect(serviceOf(s)).toEqual(serviceOf({ provider, credential: "K", ...address }) as never);
    }
    const odd = { proxy_services: "text" };
    expect(withSpelledProviders(odd)).toBe(odd);
  });
});
