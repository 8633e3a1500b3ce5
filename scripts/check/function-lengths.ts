/**
 * How long functions are. None may have more than 90 lines, and most stay under the length CONTRIBUTING
 * aims for. Lexical: biome's format ends every function on a line of its own that is indented like its first. Pure.
 */
import { withoutComments } from "./source-graph.ts";

/** CONTRIBUTING: functions under 45 lines. */
const AIM_LINES = 45;

/** CONTRIBUTING: none over 90. Biome's rule counts multi-line templates differently and lets some longer ones pass. */
const LINES_MAX = 90;

/** Part of the functions that must be under `AIM_LINES`: "most", measured at 99 % in 2026-11. */
const SHARE_UNDER_AIM_MIN = 0.97;

export type FunctionLength = { readonly path: string; readonly line: number; readonly lines: number };

const opensFunction =
  /(?:\bfunction\b.*|=>\s|^\s*(?:(?:private|protected|public|static|async|override|get|set)\s+)*(?!if\b|for\b|while\b|switch\b|catch\b|do\b)[#\w[\].]+(?:<.*>)?\(.*\)(?::.*)?\s)\{$/u;
const closesSignature = /^\s*\)(?::.*)?\s(?:=>\s)?\{$/u;

/** Every function with a body in braces, its signature included. As biome does, it counts lines of code only. */
export function functionLengths(path: string, text: string): FunctionLength[] {
  const lines = withoutComments(text)
    .replace(/`[^`]*`/gu, withoutLines)
    .split("\n");
  return lines.flatMap((line, at) => {
    const first = closesSignature.test(line)
      ? signatureOf(lines, at)
      : opensFunction.test(line)
        ? at
        : undefined;
    if (first === undefined) return [];
    const indent = indentOf(line);
    const end = lines.findIndex(
      (other, index) => index > at && other.startsWith("}", indent) && indentOf(other) === indent,
    );
    if (end < 0) return [];
    const counted = lines.slice(first, end + 1).filter((one) => one.trim() !== "").length;
    return [{ path, line: first + 1, lines: counted }];
  });
}

/** The line above `at` that opened the parentheses closed there, unless they belong to `if` and the like. */
function signatureOf(lines: readonly string[], at: number): number | undefined {
  const indent = indentOf(lines[at] ?? "");
  for (let first = at - 1; first >= 0; first--) {
    const line = lines[first] ?? "";
    if (line.trim() === "" || indentOf(line) !== indent) continue;
    return /^\s*(?:\}\s*else\s+)?(?:if|for|while|switch|catch)\b/u.test(line) ? undefined : first;
  }
  return undefined;
}

const withoutLines = (template: string): string => `\`\`${template.replace(/[^\n]/gu, "")}`;

const indentOf = (line: string): number => line.length - line.trimStart().length;

/** The share under the aim, as a line to print, and whether it is enough. */
export function judgeLengths(lengths: readonly FunctionLength[]): { line: string; violations: string[] } {
  const under = lengths.filter(({ lines }) => lines < AIM_LINES).length;
  const share = lengths.length === 0 ? 1 : under / lengths.length;
  const sorted = lengths.map(({ lines }) => lines).sort((a, b) => a - b);
  const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
  const percent = (share * 100).toFixed(1);
  const line = `${lengths.length} functions, ${percent} % under ${AIM_LINES} lines; median ${at(0.5)}, p90 ${at(0.9)}, longest ${at(1)}`;
  const violations = lengths
    .filter(({ lines }) => lines > LINES_MAX)
    .map(
      ({ path, line: at, lines }) => `${path}:${at}: a function of ${lines} lines; the most is ${LINES_MAX}`,
    );
  if (share < SHARE_UNDER_AIM_MIN)
    violations.push(
      `only ${percent} % of functions are under ${AIM_LINES} lines; the least is ${SHARE_UNDER_AIM_MIN * 100} %`,
    );
  return { line, violations };
}
