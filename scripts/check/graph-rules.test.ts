/** The rules that look at several files: circles, unused exports, test support, sizes. */
import { describe, expect, test } from "bun:test";
import { checkCircles } from "./import-circles.ts";
import { judgeSizes } from "./package-sizes.ts";
import { readGraph } from "./source-graph.ts";
import { checkTestSupport } from "./test-support.ts";
import { findUnusedExports, judgeTestedOnly } from "./unused-exports.ts";

const graphOf = (files: Readonly<Record<string, string>>) => readGraph(new Map(Object.entries(files)));

describe("circles", () => {
  test("finds one through three files, by types and by a lazy import", () => {
    const graph = graphOf({
      "packages/kit/src/a.ts": 'import type { B } from "./b.ts";',
      "packages/kit/src/b.ts": 'export const b = () => import("./c.ts");',
      "packages/kit/src/c.ts": 'import { a } from "@bureau/kit/a";',
    });
    expect(checkCircles(graph)).toEqual([
      "packages/kit/src/a.ts: imports itself through packages/kit/src/b.ts → packages/kit/src/c.ts → packages/kit/src/a.ts",
    ]);
  });

  test("accepts two ways to the same file", () => {
    const graph = graphOf({
      "a.ts": 'import "./b.ts";\nimport "./c.ts";',
      "b.ts": 'import "./c.ts";',
      "c.ts": "",
    });
    expect(checkCircles(graph)).toEqual([]);
  });
});

describe("unused exports", () => {
  test("finds a name that nothing imports and one that only tests import", () => {
    const graph = graphOf({
      "packages/kit/src/a.ts": "export const used = 1;\nexport const tested = 2;\nexport const lost = 3;",
      "packages/kit/src/b.ts": 'import { used } from "./a.ts";',
      "packages/kit/src/a.test.ts": 'import { used, tested } from "./a.ts";',
    });
    expect(findUnusedExports(graph)).toEqual({
      lost: ["packages/kit/src/a.ts:3: exports lost, which nothing imports: remove the export"],
      testedOnly: ["packages/kit/src/a.ts:2: exports tested, which only tests import"],
    });
  });

  test("refuses more names for tests than there were", () => {
    expect(judgeTestedOnly(Array.from({ length: 31 }, String)).violations).toEqual([]);
    expect(judgeTestedOnly(Array.from({ length: 32 }, String)).violations).toHaveLength(32);
  });

  test("accepts test support, a file that is imported whole, and a type in the text of a used export", () => {
    const graph = graphOf({
      "packages/kit/src/testing/a.ts": "export const fixture = 1;",
      "packages/kit/src/b.test.ts": 'import { fixture } from "./testing/a.ts";',
      "packages/kit/src/command.ts": "export const run = 1;",
      "packages/kit/src/tree.ts":
        'export type Options = { a: 1 };\nexport function tree(o: Options) {\n  return () => import("./command.ts");\n}',
      "packages/kit/src/main.ts": 'import { tree } from "./tree.ts";\ntree();',
    });
    expect(findUnusedExports(graph)).toEqual({ lost: [], testedOnly: [] });
  });
});

describe("test support", () => {
  test("finds shipped code that imports it, and files that only tests import", () => {
    const graph = graphOf({
      "packages/kit/src/main.ts": 'import { f } from "./testing/f.ts";',
      "packages/kit/src/testing/f.ts": "export const f = 1;",
      "packages/kit/src/fixture.ts": "export const g = 1;",
      "packages/kit/src/a.test.ts": 'import { g } from "./fixture.ts";',
      "packages/kit/src/lost.ts": "export const h = 1;",
    });
    expect(checkTestSupport(graph, new Set(["packages/kit/src/main.ts"]))).toEqual([
      "packages/kit/src/main.ts:1: shipped code imports test support (packages/kit/src/testing/f.ts)",
      "packages/kit/src/fixture.ts: only tests import it: move it to testing/",
      "packages/kit/src/lost.ts: nothing imports it",
    ]);
  });
});

describe("packages", () => {
  const lines = (count: number): string => "a();\n".repeat(count);
  const six = (largest: number) =>
    graphOf({
      "packages/a/src/a.ts": `import "@bureau/b/b";\n${lines(largest - 1)}`,
      "packages/a/src/a.test.ts": lines(500),
      ...Object.fromEntries(
        ["b", "c", "d", "e", "f"].map((name) => [`packages/${name}/src/${name}.ts`, lines(100)]),
      ),
    });

  test("prints lines, share, tests and arrows of each", () => {
    expect(judgeSizes(six(100)).lines[1]?.split(/\s+/u)).toEqual(["a", "1", "100", "16.7", "%", "500", "b"]);
    expect(judgeSizes(six(100)).violations).toEqual([]);
  });

  test("refuses one that holds more than a fifth", () => {
    expect(judgeSizes(six(126)).violations[0]).toContain("packages/a: holds 20.1 % of the code");
    expect(judgeSizes(six(125)).violations).toEqual([]);
  });
});
