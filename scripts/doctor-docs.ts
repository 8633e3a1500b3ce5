/**
 * Keeps the table of checks in docs/doctor.md equal to the check table. `npm run docs` writes it; `npm run check` compares
 * it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Repair } from "../packages/host/src/checks/check.ts";
import { checkTable } from "../packages/host/src/checks/check-table.ts";
import type { Violation } from "./dependency-arrows.ts";
import { root } from "./find-bun.mjs";

const page = "docs/doctor.md";
const begin = "<!-- checks: written by npm run docs -->\n";
const end = "<!-- end of checks -->\n";

/** The page's text with the current table. */
function withTable(text: string): string {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${page} has no place for the table of checks`);
  return text.slice(0, from + begin.length) + table() + text.slice(to);
}

function repairText(repair: Repair): string {
  if (repair.kind === "by-hand") return `by hand: ${repair.text}`;
  return repair.byHand === undefined ? repair.text : `${repair.text}; otherwise by hand: ${repair.byHand}`;
}

function table(): string {
  const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
  const rows = checkTable.map((check) => [
    `\`${check.id}\``,
    cell(check.expected),
    cell(repairText(check.repair)),
    check.scope.kind === "every-installation" ? "yes" : "",
  ]);
  const heading = ["check", "expected", "`--fix`", "rootless"];
  return [heading, heading.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |\n`).join("");
}

export function checkDoctorDocs(): Violation[] {
  const text = readFileSync(join(root, page), "utf8");
  return text === withTable(text)
    ? []
    : [`${page}: its table of checks differs from the check table: npm run docs`];
}

if (import.meta.main) writeFileSync(join(root, page), withTable(readFileSync(join(root, page), "utf8")));
