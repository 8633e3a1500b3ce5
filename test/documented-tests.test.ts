/** docs/security.md names the tests of each promise. Every named test must exist. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

const root = join(import.meta.dir, "..");
const sources = [...new Bun.Glob("{packages,test}/**/*.ts").scanSync({ cwd: root })].filter(
  (path) => !path.includes("node_modules/"),
);

/** The column of tests in each table that has one. */
function namedTests(): string[] {
  const cells: string[] = [];
  let column = -1;
  for (const line of readFileSync(join(root, "docs/security.md"), "utf8").split("\n")) {
    const row = line.split("|").map((cell) => cell.trim());
    if (row.includes("test")) column = row.indexOf("test");
    else if (row.length < 2) column = -1;
    else if (column > 0 && !/^-+$/u.test(row[column] ?? "")) cells.push(row[column] ?? "");
  }
  return cells;
}

/** `seccomp.sandbox`, `test/egress`, a folder, or `membership contract`. */
function filesOf(name: string): string[] {
  if (existsSync(join(root, name))) return sources.filter((path) => path.startsWith(`${name}/`));
  const file = name.endsWith(" contract") ? `${name.replace(" ", "-")}.ts` : `${name}.test.ts`;
  return sources.filter((path) => (file.includes("/") ? path === file : basename(path) === file));
}

test("every test named in docs/security.md exists", () => {
  const lost: string[] = [];
  const cells = namedTests();
  for (const cell of cells)
    for (const [, quoted, contract, title] of cell.matchAll(
      /(?:`([^`]+)`|\b([a-z-]+ contract))(?: "([^"]+)")?/gu,
    )) {
      const file = quoted ?? contract ?? "";
      const words = (title ?? "").replaceAll("…", "").trim();
      const isThere = filesOf(file).some((path) => readFileSync(join(root, path), "utf8").includes(words));
      if (!isThere) lost.push(`${file} "${words}"`);
    }
  expect(lost).toEqual([]);
  expect(cells.length).toBeGreaterThan(30);
});
