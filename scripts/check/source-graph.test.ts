import { expect, test } from "bun:test";
import { isTestOnly, packageOfPath, readGraph } from "./source-graph.ts";

const graphOf = (files: Readonly<Record<string, string>>) => readGraph(new Map(Object.entries(files)));

test("reads imports of every form, by name and by the path of the file", () => {
  const text = [
    'import { a, type B, c as d } from "./one.ts";',
    'import type {\n  E,\n  F,\n} from "../two.ts";',
    'import * as all from "@bureau/os/layout";',
    'import "@bureau/service-kit/start";',
    'export { g as h } from "node:fs";',
    'const load = () => import("./lazy.ts");',
    'type X = import("./types.ts").X;',
    '// import { no } from "./no.ts";',
  ].join("\n");
  const source = graphOf({ "packages/kit/src/a/file.ts": text }).get("packages/kit/src/a/file.ts");
  expect(source?.imports.map(({ target, names }) => [target, ...names])).toEqual([
    ["packages/kit/src/a/one.ts", "a", "B", "c"],
    ["packages/kit/src/two.ts", "E", "F"],
    ["packages/os/src/layout.ts", "*"],
    ["node:fs", "g"],
    ["packages/services/kit/src/start.ts"],
    ["packages/kit/src/a/lazy.ts", "*"],
    ["packages/kit/src/a/types.ts", "X"],
  ]);
});

test("reads exports of every form, with their lines", () => {
  const text = [
    "export const a = 1;",
    "export async function b() {}",
    "export type C = 1;",
    "export abstract class D {}",
    "export const { e, f: g } = h;",
    "export { i as j, type K };",
    "// export const no = 1;",
    "const inner = 1;",
  ].join("\n");
  const source = graphOf({ "a.ts": text }).get("a.ts");
  const found = source?.exports.map(({ name, line }) => `${name} ${line}`);
  expect(found).toEqual(["a 1", "b 2", "C 3", "D 4", "e 5", "g 5", "j 6", "K 6"]);
});

test("knows the package of a path, and what only tests use", () => {
  expect(packageOfPath("packages/kit/src/a.ts")).toBe("kit");
  expect(packageOfPath("packages/services/fleet/src/a.ts")).toBe("services/fleet");
  expect(packageOfPath("test/a.ts")).toBeUndefined();
  for (const path of ["packages/kit/src/a.test.ts", "packages/kit/src/testing/a.ts", "test/lab/lab.ts"])
    expect(isTestOnly(path), path).toBe(true);
  expect(isTestOnly("packages/kit/src/latest.ts")).toBe(false);
});
