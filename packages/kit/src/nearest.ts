/** The known name a mistyped one was probably meant to be; undefined when none is close. */
export function nearest(typed: string, known: readonly string[]): string | undefined {
  let best: { name: string; distance: number } | undefined;
  for (const name of known) {
    const distance = name.startsWith(typed) && typed.length > 1 ? 1 : editDistance(typed, name);
    if (best === undefined || distance < best.distance) best = { name, distance };
  }
  return best !== undefined && best.distance <= tolerance(typed) ? best.name : undefined;
}

/** A third of the letters may be wrong, at least one. */
const tolerance = (typed: string): number => Math.max(1, Math.floor(typed.length / 3) + 1);

/** Names shown at once; a longer list is hard to read. */
const NAMES_MAX = 8;

/** A hint for an unknown name: the nearest existing name, or a list of them. */
export function instead(
  typed: string,
  known: readonly string[],
  say: { readonly are: string; readonly list: string; readonly none: string },
): string {
  if (known.length === 0) return say.none;
  const guess = known.includes(typed) ? undefined : nearest(typed, known);
  // Names of one kind share a prefix: the distance is measured on their last part.
  const last = typed.split(/[/:]/).at(-1) ?? "";
  if (guess !== undefined && editDistance(typed, guess) <= tolerance(last))
    return `did you mean "${guess}"? (${say.list})`;
  if (known.length > NAMES_MAX) return say.list;
  return `${say.are}: ${[...known].sort().join(", ")}`;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number): number => rows[row]?.[column] ?? 0;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(replaced, at(i - 1, j) + 1, at(i, j - 1) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(i - 2, j - 2) + 1);
      row.push(least);
    }
  }
  return at(a.length, b.length);
}
