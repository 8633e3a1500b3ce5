/**
 * Plain words, as tables that a person reads and this check enforces: the glossary of ARCHITECTURE.md has a column "we
 * do not say", CONTRIBUTING.md a table of phrases. Pure.
 */
import type { Violation } from "../dependency-arrows.ts";

export type Word = { readonly avoid: string; readonly say: string };

/** Where the tables are. Their own rows name what they forbid. */
const tables: ReadonlySet<string> = new Set(["ARCHITECTURE.md", "CONTRIBUTING.md"]);

/** Files whose words are not ours to choose: generated, or examples of what is refused. */
const exempt = /^(?:package-lock\.json|scripts\/check\/words(?:\.test)?\.ts|LICENSE)$/u;

/** Names that a wire, a runtime or a released version gave, and terms of the field that contain an avoided word. */
const allowed: readonly RegExp[] = [
  /m\.notice/gu,
  /\ballSettled\b/gu,
  /\bbureau-terminals\b/gu,
  /\bDelegateSubgroup=terminals\b/gu,
  /\bexternal-terminals\b|\bexternalTerminals\b/gu,
  // The control group of the tmux server, and a push rule of the Matrix specification.
  /\/terminals\b|\bTMUX_LEAF = "terminals"/gu,
  /\bunsent-notices\.json\b/gu,
  /\bsuppress_notices\b/gu,
  // User IDs in examples.
  /@\w+:\w+|\bsomeone:s\b/gu,
  /\w*host_environment\w*/gu,
  /\bhost-environment(?:\.md|`|\.ts")/gu,
  /\bprograms_dir\b/gu,
  /health[\s_-]?probe[sd]?/giu,
];

/** The words of one of the tables. `| word | … | we do not say |` or `| instead of | write |`. */
export function readWords(markdown: string): Word[] {
  const words: Word[] = [];
  let columns: { avoid: number; say: number } | undefined;
  for (const line of markdown.split("\n")) {
    const cells = line.startsWith("|")
      ? line
          .split("|")
          .slice(1, -1)
          .map((cell) => cell.trim())
      : [];
    if (cells.length === 0) columns = undefined;
    else if (columns === undefined) columns = columnsOf(cells);
    else words.push(...wordsOf(cells[columns.avoid] ?? "", cells[columns.say] ?? ""));
  }
  return words;
}

function columnsOf(cells: readonly string[]): { avoid: number; say: number } {
  const glossary = cells.indexOf("we do not say");
  if (glossary >= 0) return { avoid: glossary, say: 0 };
  return cells[0] === "instead of" ? { avoid: 0, say: 1 } : { avoid: -1, say: -1 };
}

function wordsOf(avoid: string, say: string): Word[] {
  if (/^-*$/u.test(avoid)) return [];
  return avoid.split(",").map((phrase) => ({ avoid: phrase.trim().replaceAll("`", ""), say }));
}

/** Finds avoided words in one file: whole words, in prose as in the parts of an identifier. */
export function wordCheck(words: readonly Word[]): (path: string, text: string) => Violation[] {
  const says = new Map(words.map(({ avoid, say }) => [avoid.toLowerCase(), say]));
  const separator = String.raw`(?:[ _-]|\n[ \t]*(?:\*|//|#)?[ \t]*)`;
  const phrases = [...says.keys()].map((phrase) => phrase.split(" ").map(RegExp.escape).join(separator));
  const pattern = new RegExp(`(?<![A-Za-z0-9])(?:${phrases.join("|")})(?![A-Za-z0-9])`, "giu");
  return (path, text) => {
    if (exempt.test(path) || words.length === 0) return [];
    const plain = withoutAllowed(tables.has(path) ? text.replace(/^\|.*$/gmu, "") : text);
    return [...plain.matchAll(pattern)].map((match) => {
      const found = match[0].toLowerCase().replace(/[\s_*/#-]+/gu, " ");
      const line = plain.slice(0, match.index).split("\n").length;
      return `${path}:${line}: say ${says.get(found) ?? "something else"} instead of "${found}"`;
    });
  };
}

/** Blanks what is allowed, and parts the words of an identifier. */
function withoutAllowed(text: string): string {
  const plain = allowed.reduce((rest, pattern) => rest.replace(pattern, ""), text);
  return plain.replace(/([a-z0-9])([A-Z])/gu, "$1 $2");
}
