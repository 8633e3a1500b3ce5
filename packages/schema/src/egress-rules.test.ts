import { describe, expect, test } from "bun:test";
import { egressRules, intersectEgress, mayAsk, parseEgressRule } from "./egress-rules.ts";
import { inRange, isPublic, parseAddress, parseRange } from "./ip-address.ts";
import { InputError, parse } from "./parse.ts";
import { sandboxSpecOf } from "./sandbox-spec.ts";
import { mergeTemplates, type Template, TemplateSchema } from "./template.ts";

describe("entries of egress", () => {
  for (const entry of [
    "",
    "*",
    "*.*.com",
    "a.*",
    "http://a.com",
    "a.com/x",
    "a.com:0",
    "a.com:65536",
    "a b",
    "10.0.0.1/8",
    "fd00::1",
    "127.1",
    "0x7f.1",
    "1.2.3.4/33",
    "[a.com]",
  ])
    test(`refuses "${entry}"`, () => {
      expect(parseEgressRule(entry)).toBeString();
      expect(() => parse(TemplateSchema, { egress: [entry] }, "template")).toThrow(InputError);
    });

  test("a rule permits its names, addresses and ports, and no others", () => {
    const rules = egressRules([
      "API.Example.com",
      "*.example.org:8443",
      "10.1.0.0/16:5432",
      "[fd00::/8]:443",
    ]);
    for (const [host, port] of [
      ["api.example.com", 80],
      ["api.example.com", 443],
      ["a.b.example.org", 8443],
      ["10.1.2.3", 5432],
      ["fd00::9", 443],
    ] as const)
      expect(mayAsk(rules, host, port)).toBe(true);
    for (const [host, port] of [
      ["api.example.com", 8080],
      ["x.api.example.com", 443],
      ["example.org", 8443],
      ["a.example.org", 443],
      ["10.2.0.1", 5432],
      ["10.1.2.3", 80],
      ["fe80::1", 443],
    ] as const)
      expect(mayAsk(rules, host, port)).toBe(false);
  });
});

describe("inheriting egress", () => {
  const merge = (parent: string[] | undefined, child: string[] | undefined): string[] | undefined =>
    mergeTemplates(
      parse(TemplateSchema, parent === undefined ? {} : { egress: parent }, "parent"),
      parse(TemplateSchema, child === undefined ? {} : { egress: child }, "child"),
    ).egress;

  test("a list counts as it is where only one side has one", () => {
    expect(merge(undefined, undefined)).toBeUndefined();
    expect(merge(["a.com"], undefined)).toEqual(["a.com"]);
    expect(merge(undefined, ["a.com"])).toEqual(["a.com"]);
  });

  test("a child narrows its parent's list and never widens it", () => {
    expect(merge([], ["a.com"])).toEqual([]);
    expect(merge(["a.com"], [])).toEqual([]);
    expect(merge(["a.com", "b.com"], ["b.com", "c.com"])).toEqual(["b.com"]);
    expect(merge(["*.a.com"], ["x.a.com", "a.com"])).toEqual(["x.a.com"]);
    expect(merge(["x.a.com"], ["*.a.com"])).toEqual(["x.a.com"]);
    expect(merge(["10.0.0.0/8:22"], ["10.1.0.0/16:22", "11.0.0.0/8:22"])).toEqual(["10.1.0.0/16:22"]);
    expect(merge(["*.a.com:443"], ["x.a.com"])).toEqual(["x.a.com:443"]);
    expect(merge(["a.com:8080"], ["a.com"])).toEqual([]);
    expect(merge(["[fd00::/8]:443"], ["[fd00::1]"])).toEqual(["[fd00::1]:443"]);
  });

  test("what is left permits exactly what both permit", () => {
    const pool = [
      "a.com",
      "*.a.com",
      "x.a.com",
      "*.x.a.com:8080",
      "x.a.com:443",
      "10.0.0.0/8",
      "10.1.0.0/16:80",
      "10.1.1.1:443",
      "[fd00::/8]",
      "[fd00::1]:80",
    ];
    const hosts = ["a.com", "x.a.com", "y.x.a.com", "10.1.1.1", "10.1.2.2", "10.2.2.2", "fd00::1", "fd00::2"];
    for (const p of pool)
      for (const c of pool)
        for (const host of hosts)
          for (const port of [80, 443, 8080])
            expect([p, c, host, port, mayAsk(egressRules(intersectEgress([p], [c])), host, port)]).toEqual([
              p,
              c,
              host,
              port,
              mayAsk(egressRules([p]), host, port) && mayAsk(egressRules([c]), host, port),
            ]);
  });
});

describe("a sandbox with a list of hosts", () => {
  const spec = (template: Template) =>
    sandboxSpecOf(template, { principal: "@x:y", template: "r:t", auto_start: true } as never);

  test("has a network of its own, also when the template shares the host's", () => {
    expect(spec({ egress: ["a.com"], namespaces: { net: false, ipc: true } }).namespaces).toEqual({
      net: true,
      ipc: true,
    });
    expect(spec({ egress: [], namespaces: { net: false } }).namespaces).toEqual({ net: true });
    expect(spec({ namespaces: { net: false } }).namespaces).toEqual({ net: false });
    expect(spec({ egress: ["a.com"] })).toMatchObject({ egress: ["a.com"] });
    expect(spec({ egress: [] })).not.toContainKey("egress");
  });
});

describe("addresses", () => {
  test("strict spellings parse alike, others do not", () => {
    for (const [one, other] of [
      ["::1", "0:0:0:0:0:0:0:1"],
      ["::ffff:1.2.3.4", "1.2.3.4"],
      ["::ffff:102:304", "1.2.3.4"],
      ["FD00::a", "fd00:0::A"],
    ])
      expect(parseAddress(one ?? "")).toEqual(parseAddress(other ?? "") as never);
    for (const text of [
      "",
      "1.2.3",
      "1.2.3.04",
      "256.1.1.1",
      "1:2",
      ":::",
      "1::2::3",
      "1:2:3:4:5:6:7:8:9",
      "::1.2.3",
      "1.2.3.4::",
      "fe80::1%1",
      "::g",
    ])
      expect(parseAddress(text)).toBeUndefined();
  });

  test("only addresses of the public internet are public", () => {
    for (const text of [
      "8.8.8.8",
      "93.184.216.34",
      "172.32.0.1",
      "100.128.0.1",
      "2606:4700::1111",
      "2a00:1450::1",
    ])
      expect([text, isPublic(parseAddress(text) as never)]).toEqual([text, true]);
    const range = parseRange("10.0.0.0/8");
    expect(range !== undefined && inRange(parseAddress("10.255.0.1") as never, range)).toBe(true);
  });
});
