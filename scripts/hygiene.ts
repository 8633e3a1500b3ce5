/** What no file of the repository may contain. Pure; check.ts calls it. */
import type { Violation } from "./dependency-arrows.ts";

/** Hosts of package registries: each person's settings say which one to use, not this repository. */
const packageHost = /https?:\/\/(?:registry|files|proxy|static|deb|snapshot|security)\./iu;
const onlyCall = /\b(?:test|it|describe)(?:\.\w+(?:\([^()]*\))?)*\.only(?:\.\w+)*\s*\(/u;
const skipCall = /\b(?:test|it|describe)\.(?:skip|todo)\s*\(/u;

/** Writes to a terminal that bypass the one place that escapes untrusted text. */
const rawPrint =
  /\bprocess\.std(?:out|err)\.write\b|\bconsole\.\w+\(|\bwriteSync\(\s*[12],|\bBun\.std(?:out|err)\b/u;
const printers: ReadonlySet<string> = new Set([
  "packages/cli/src/command/terminal.ts",
  "packages/cli/src/command/ask-password.ts",
  "packages/cli/src/command/print-help.ts",
]);
const mustNotPrint = (path: string): boolean =>
  /^packages\/(?:cli|control|host|instance)\/src\//u.test(path) &&
  !printers.has(path) &&
  !/\.test\.tsx?$/u.test(path);

/** Checks one text file. `root` is the absolute path of the checkout. */
export function checkHygiene(path: string, text: string, root: string): Violation[] {
  const isTest = /\.test\.tsx?$/u.test(path);
  const lines = text.split("\n");
  return lines.flatMap((line, index) => {
    const at = `${path}:${index + 1}`;
    const found: Violation[] = [];
    if (namesPath(line, root)) found.push(`${at}: names the checkout's own path; paths are computed`);
    const host = packageHost.exec(line)?.[0];
    if (host !== undefined)
      found.push(`${at}: names a package host (${host}…); leave it to the person's settings`);
    if (mustNotPrint(path) && rawPrint.test(line))
      found.push(`${at}: bypasses command/terminal.ts, which escapes untrusted text`);
    if (isTest && onlyCall.test(line)) found.push(`${at}: .only( hides every other test`);
    if (isTest && skipCall.test(line) && !`${lines[index - 1] ?? ""}${line}`.includes("//"))
      found.push(`${at}: a test is skipped without a reason: say why in a comment on or above the line`);
    return found;
  });
}

/** True when `line` holds `root` as a whole path or the beginning of one. */
function namesPath(line: string, root: string): boolean {
  for (let at = line.indexOf(root); at >= 0; at = line.indexOf(root, at + 1)) {
    const before = line.charAt(at - 1);
    const after = line.charAt(at + root.length);
    if (!/[\w.~-]/u.test(before) && !/[\w.-]/u.test(after)) return true;
  }
  return false;
}
