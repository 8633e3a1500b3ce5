import { describe, expect, test } from "bun:test";
import { InputError, parse } from "./parse.ts";
import { mergeTemplates, SecretBindingSchema, type Template, TemplateSchema } from "./template.ts";

const template = (content: unknown): Template => parse(TemplateSchema, content, "template");
const merge = (parent: unknown, child: unknown): Template =>
  mergeTemplates(template(parent), template(child));

describe("merging templates: the child's wins when it says something", () => {
  for (const [field, p, c] of [
    ["description", "p", "c"],
    ["isolation", "standard", "none"],
    ["environment", "/nix/store/p", "/nix/store/c"],
    ["credential_ref", "r:p", "r:c"],
  ] as const)
    test(field, () => {
      expect(merge({ [field]: p }, { [field]: c })[field]).toBe(c);
      expect(merge({ [field]: p }, { [field]: "" })[field]).toBe(p);
      expect(merge({ [field]: p }, { [field]: null })[field]).toBe(p);
      expect(merge({ [field]: p }, {})[field]).toBe(p);
      expect(merge({}, { [field]: c })[field]).toBe(c);
      expect(merge({}, {})).not.toContainKey(field);
    });

  test("command", () => {
    expect(merge({ command: ["p", "x"] }, { command: ["c"] }).command).toEqual(["c"]);
    expect(merge({ command: ["p"] }, { command: [] }).command).toEqual(["p"]);
    expect(merge({ command: ["p"] }, { command: null }).command).toEqual(["p"]);
    expect(merge({}, {}).command).toBeUndefined();
  });
});

describe("merging templates: the child's replaces the whole object", () => {
  for (const [field, p, c] of [
    ["namespaces", { pid: true, net: true }, { ipc: true }],
    ["resources", { cpu_shares: 1, pids_limit: 2 }, { memory_limit_mb: 3 }],
    ["security", { new_session: true, no_new_privs: true }, { die_with_parent: true }],
    [
      "health_check",
      { interval_seconds: 1, endpoint: "/p", type: "http" as const },
      { interval_seconds: 2, type: "socket" as const },
    ],
    ["output_capture", { enabled: true, max_size: 5 }, { enabled: false }],
  ] as const)
    test(field, () => {
      expect(merge({ [field]: p }, { [field]: c })[field]).toEqual(c as never);
      expect(merge({ [field]: p }, {})[field]).toEqual(p as never);
      expect(merge({}, { [field]: c })[field]).toEqual(c as never);
    });

  test("an empty object replaces too, over any number of levels", () => {
    for (const field of ["namespaces", "resources", "security"] as const) {
      const emptied = merge({ [field]: {} }, { command: ["x"] });
      expect(mergeTemplates(template({ [field]: { pid: true, cpu_shares: 1 } }), emptied)[field]).toEqual({});
    }
  });
});

describe("merging templates: maps by key, the child's entry whole", () => {
  for (const [field, p, c, merged] of [
    ["environment_variables", { A: "p", B: "p" }, { B: "c", C: "" }, { A: "p", B: "c", C: "" }],
    ["roles", { a: ["p"], b: ["p", "q"] }, { b: ["c"] }, { a: ["p"], b: ["c"] }],
    ["default_payload", { a: { x: 1, y: 2 } }, { a: { x: 3 }, b: null }, { a: { x: 3 }, b: null }],
    [
      "proxy_services",
      { a: { upstream: "http://p", auth_scheme: "bearer" }, b: { upstream: "http://p" } },
      { a: { upstream: "https://c" } },
      { a: { upstream: "https://c" }, b: { upstream: "http://p" } },
    ],
  ] as const)
    test(field, () => {
      expect(merge({ [field]: p }, { [field]: c })[field]).toEqual(merged as never);
      expect(merge({ [field]: p }, {})[field]).toEqual(p as never);
      expect(merge({}, {})).not.toContainKey(field);
    });

  test("prepend_variables: the child's entries first, then the parent's that are new", () => {
    const merged = merge(
      { prepend_variables: { PATH: ["/p", "/both"], MAN: ["/m"] } },
      { prepend_variables: { PATH: ["/c", "/both"], LIB: ["/l"] } },
    );
    expect(merged.prepend_variables).toEqual({ PATH: ["/c", "/both", "/p"], MAN: ["/m"], LIB: ["/l"] });
  });

  test("a variable may be called like something every object has", () => {
    expect(merge({}, { prepend_variables: { toString: ["/c"] } }).prepend_variables).toEqual({
      toString: ["/c"],
    } as never);
  });
});

describe("merging templates: lists", () => {
  for (const field of ["create_dirs", "required_credentials", "required_services"] as const)
    test(`${field}: union, the parent's first`, () => {
      expect(merge({ [field]: ["a", "b"] }, { [field]: ["c", "b"] })[field]).toEqual(["a", "b", "c"]);
      expect(merge({ [field]: ["a"] }, { [field]: null })[field]).toEqual(["a"]);
      expect(merge({ [field]: [] }, {})).not.toContainKey(field);
    });

  test("filesystem: the parent's whose dest the child does not have, then the child's", () => {
    const merged = merge(
      {
        filesystem: [
          { source: "/p1", dest: "/a", mode: "rw" },
          { source: "/p2", dest: "/b" },
        ],
      },
      {
        filesystem: [
          { source: "/c", dest: "/a" },
          { type: "tmpfs", dest: "/c" },
        ],
      },
    );
    expect(merged.filesystem?.map((mount) => [mount.source, mount.dest, mount.mode])).toEqual([
      ["/p2", "/b", undefined],
      ["/c", "/a", undefined],
      [undefined, "/c", undefined],
    ]);
  });

  test("secrets: the parent's whose key the child does not have, then the child's", () => {
    const merged = merge(
      {
        secrets: [
          { key: "A", env: "P" },
          { key: "B", env: "P" },
        ],
      },
      { secrets: [{ key: "A", file: "c" }] },
    );
    expect(merged.secrets?.map((secret) => [secret.key, secret.env, secret.file])).toEqual([
      ["B", "P", undefined],
      ["A", undefined, "c"],
    ]);
  });

  test("allowed_pipelines: absent is any, empty is none, two lists leave what both have", () => {
    const pipelines = (p: unknown, c: unknown) =>
      merge(p === undefined ? {} : { allowed_pipelines: p }, c === undefined ? {} : { allowed_pipelines: c })
        .allowed_pipelines;
    expect(pipelines(undefined, undefined)).toBeUndefined();
    expect(pipelines(["a"], undefined)).toEqual(["a"]);
    expect(pipelines(undefined, ["a"])).toEqual(["a"]);
    expect(pipelines(["a", "b", "c"], ["c", "x", "a"])).toEqual(["c", "a"]);
    expect(pipelines([], ["a"])).toEqual([]);
    expect(pipelines(["a"], [])).toEqual([]);
    expect(pipelines([], undefined)).toEqual([]);
    expect(pipelines(["a"], ["b"])).toEqual([]);
  });
});

describe("merging templates: lineage", () => {
  test("inherits is resolved and gone", () => {
    expect(merge({ inherits: ["r:a"] }, { inherits: ["r:b"] })).not.toContainKey("inherits");
  });

  test("origin is the child's or absent", () => {
    expect(merge({ origin: { content_hash: "p" } }, { origin: { content_hash: "c" } }).origin).toEqual({
      content_hash: "c",
    });
    expect(merge({ origin: { content_hash: "p" } }, {})).not.toContainKey("origin");
  });

  test("a child adds to its parent's authorization and removes none of it", () => {
    const parent = { denials: [{ actions: ["interrupt/**"], targets: ["**:*"] }] };
    const child = { grants: [{ actions: ["**"] }], denials: [] };
    expect(merge({ authorization: parent }, { authorization: child }).authorization).toMatchObject({
      grants: child.grants,
      denials: parent.denials,
    });
    expect(merge({ authorization: parent }, { authorization: {} }).authorization).toMatchObject(parent);
  });

  test("every field of a template survives the merge of it with nothing", () => {
    const whole = {
      description: "d",
      isolation: "standard",
      command: ["x"],
      environment: "/nix/store/x",
      environment_variables: { A: "1" },
      prepend_variables: { PATH: ["/x"] },
      filesystem: [{ source: "/a", dest: "/b" }],
      namespaces: { net: false },
      resources: { pids_limit: 5 },
      security: { new_session: true },
      create_dirs: ["/d"],
      roles: { r: ["x"] },
      required_credentials: ["K"],
      secrets: [{ key: "K", env: "E" }],
      credential_ref: "r:c",
      allowed_pipelines: ["p"],
      egress: ["a.com"],
      required_services: ["ticket"],
      default_payload: { a: 1 },
      health_check: { type: "socket", interval_seconds: 1 },
      output_capture: { enabled: true },
      proxy_services: { s: { upstream: "https://u" } },
      authorization: { denials: [{ actions: ["interrupt"] }] },
    };
    expect(merge({}, whole) as unknown).toEqual(whole);
    expect(merge(whole, {}) as unknown).toEqual(whole);
    expect(Object.keys(TemplateSchema.entries).sort()).toEqual(
      [...Object.keys(whole), "inherits", "origin"].sort(),
    );
  });
});

describe("what a template may not hold", () => {
  test("a secret needs a place, and its file is a bare name", () => {
    const accepts = (value: unknown): boolean => {
      try {
        parse(SecretBindingSchema, value, "secret");
        return true;
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
        return false;
      }
    };
    expect(accepts({ key: "K", env: "E", file: "" })).toBe(true);
    expect(accepts({ key: "K", file: ".netrc" })).toBe(true);
    for (const bad of [{ key: "K" }, { key: "K", env: "", file: null }, { key: "", env: "E" }])
      expect(accepts(bad)).toBe(false);
    for (const file of ["a/b", "/a", "a\\b", ".", "..", "..a"])
      expect(accepts({ key: "K", file })).toBe(false);
  });

  test("relative destinations, unknown kinds, negative limits, other upstreams, a null for any-or-none", () => {
    for (const bad of [
      { filesystem: [{ dest: "a" }] },
      { filesystem: [{ dest: "/a", type: "overlay" }] },
      { filesystem: [{ dest: "/a", mode: "rwx" }] },
      { isolation: "vm" },
      { resources: { cpu_shares: -1 } },
      { resources: { pids_limit: 1.5 } },
      { health_check: { type: "socket", interval_seconds: 0 } },
      { health_check: { interval_seconds: 1 } },
      { health_check: { endpoint: "health", interval_seconds: 1 } },
      { proxy_services: { s: { upstream: "file:///etc/passwd" } } },
      { allowed_pipelines: null },
      { command: "sh" },
      { environment_variables: { A: 1 } },
    ])
      expect(() => template(bad), JSON.stringify(bad)).toThrow(InputError);
  });
});
