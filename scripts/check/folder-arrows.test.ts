import { expect, test } from "bun:test";
import { checkFolderArrows } from "./folder-arrows.ts";
import { readGraph } from "./source-graph.ts";

const arrows = { kit: { low: [], high: ["low"] } };
const check = (files: Readonly<Record<string, string>>) =>
  checkFolderArrows(readGraph(new Map(Object.entries(files))), arrows);
const low = "packages/kit/src/low/a.ts";
const high = "packages/kit/src/high/b.ts";

test("accepts an arrow of the table, files directly in src, and tests", () => {
  const files = { [low]: 'import "../root.ts";', [high]: 'import "../low/a.ts";' };
  expect(check({ ...files, "packages/kit/src/root.ts": 'import "./high/b.ts";' })).toEqual([]);
  expect(check({ ...files, "packages/kit/src/low/a.test.ts": 'import "../high/b.ts";' })).toEqual([]);
});

test("finds an arrow against the table", () => {
  expect(check({ [low]: 'import "../high/b.ts";', [high]: "" })).toEqual([
    `${low}:1: imports ${high}: kit/low may not import kit/high`,
  ]);
});

test("finds a folder without a place in the table, and leaves other packages alone", () => {
  expect(check({ "packages/kit/src/new/c.ts": "" })[0]).toContain("folder kit/new has no arrows yet");
  expect(check({ "packages/os/src/new/c.ts": "" })).toEqual([]);
});
