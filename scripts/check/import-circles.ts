/** Finds files that import each other in a circle: neither can be read, tested or moved without the other. Pure. */
import type { Violation } from "../dependency-arrows.ts";
import type { SourceGraph } from "./source-graph.ts";

/** One violation a circle. Imports of types count: an arrow is knowledge, not bytes. */
export function checkCircles(graph: SourceGraph): Violation[] {
  return circlesIn(graph).map(
    (circle) => `${circle[0]}: imports itself through ${[...circle.slice(1), circle[0]].join(" → ")}`,
  );
}

/** Depth first; what a search has left behind cannot lead back into it. */
function circlesIn(graph: SourceGraph): string[][] {
  const circles: string[][] = [];
  const done = new Set<string>();
  const way: string[] = [];
  const visit = (path: string): void => {
    const at = way.indexOf(path);
    if (at >= 0) circles.push(way.slice(at));
    if (at >= 0 || done.has(path)) return;
    way.push(path);
    for (const { target } of graph.get(path)?.imports ?? []) if (graph.has(target)) visit(target);
    way.pop();
    done.add(path);
  };
  for (const path of [...graph.keys()].sort()) visit(path);
  return circles;
}
