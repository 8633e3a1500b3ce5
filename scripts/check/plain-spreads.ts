/** Finds `...{` of a plain object literal: fields that are written as a spread only so that they share a line. Pure. */
import type { Violation } from "../dependency-arrows.ts";
import { withoutComments } from "./source-graph.ts";

const spread = new RegExp(`\\.{3}${"\\{"}`, "u");

export function checkPlainSpreads(path: string, text: string): Violation[] {
  if (!/\.(?:ts|tsx|mjs)$/u.test(path)) return [];
  return withoutComments(text)
    .split("\n")
    .flatMap((line, index) =>
      spread.test(line) ? [`${path}:${index + 1}: spreads an object literal: write its fields plainly`] : [],
    );
}
