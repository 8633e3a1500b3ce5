/** How large each package is, how much of the code that is, and which packages it imports. Pure. */
import type { Violation } from "../dependency-arrows.ts";
import { isTestOnly, packageOfPath, type SourceGraph } from "./source-graph.ts";

/** No package holds more of the code than this: a package that grows past it is several. */
const SHARE_MAX = 0.2;

type Size = { files: number; lines: number; testLines: number; readonly imports: Set<string> };

/** A table with one line a package, the largest first, and the packages that are too large. */
export function judgeSizes(graph: SourceGraph): { lines: string[]; violations: Violation[] } {
  const sizes = [...sizesOf(graph)].sort(([, a], [, b]) => b.lines - a.lines);
  const sum = sizes.reduce((total, [, size]) => total + size.lines, 0);
  const shareOf = (size: Size): number => (sum === 0 ? 0 : size.lines / sum);
  const row = (...cells: string[]): string =>
    `${(cells[0] ?? "").padEnd(18)} ${cells
      .slice(1, 5)
      .map((cell) => cell.padStart(6))
      .join(" ")}  ${cells[5] ?? ""}`;
  return {
    lines: [
      row("package", "files", "lines", "share", "tests", "imports"),
      ...sizes.map(([name, size]) =>
        row(
          name,
          String(size.files),
          String(size.lines),
          `${(shareOf(size) * 100).toFixed(1)} %`,
          String(size.testLines),
          [...size.imports].sort().join(" "),
        ),
      ),
    ],
    violations: sizes
      .filter(([, size]) => sizes.length > 1 / SHARE_MAX && shareOf(size) > SHARE_MAX)
      .map(
        ([name, size]) =>
          `packages/${name}: holds ${(shareOf(size) * 100).toFixed(1)} % of the code; the most is ${SHARE_MAX * 100} %: split it`,
      ),
  };
}

/** Lines that ship count apart from those of tests and their support. */
function sizesOf(graph: SourceGraph): Map<string, Size> {
  const sizes = new Map<string, Size>();
  for (const { path, text, imports } of graph.values()) {
    const name = packageOfPath(path);
    if (name === undefined) continue;
    const size = sizes.get(name) ?? { files: 0, lines: 0, testLines: 0, imports: new Set() };
    sizes.set(name, size);
    const lines = text.split("\n").length - 1;
    if (isTestOnly(path)) {
      size.testLines += lines;
      continue;
    }
    size.files++;
    size.lines += lines;
    for (const { target } of imports) {
      const to = packageOfPath(target);
      if (to !== undefined && to !== name) size.imports.add(to);
    }
  }
  return sizes;
}
