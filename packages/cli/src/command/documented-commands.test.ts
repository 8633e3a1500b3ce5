/** Every `bureau …` that README and docs print is a command that exists, with flags that it has. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../all-commands.ts";
import { type Command, type CommandGroup, isGroup, shownFlags } from "./command.ts";

const repository = join(import.meta.dir, "../../../..");
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(repository, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** Commands in blocks and in inline code, one a line; a line that ends with a backslash continues. */
function printed(text: string): string[] {
  const joined = text.replaceAll(/\\\n\s*/g, " ");
  const blocks = [...joined.matchAll(/^```\w*\n(.*?)^```/gms)].flatMap(([, block = ""]) => block.split("\n"));
  const inline = [...joined.replaceAll(/^```.*?^```/gms, "").matchAll(/`([^`]+)`/g)].map(([, code = ""]) =>
    code.replaceAll(/\s+/g, " "),
  );
  return [...blocks, ...inline].map((line) =>
    line
      .replace(/\s#\s.*$/, "")
      .replace(/\s{3,}.*$/, "")
      .trim(),
  );
}

const called = /^(?:sudo )?(?:\.\/|\/var\/bureau\/bin\/)?bureau (?=[a-z])/;

/** The fault of a line; undefined when it has none. */
function faultOf(line: string): string | undefined {
  const words = line
    .replace(called, "")
    .split(/\s*[|;&]\s*/)[0]
    ?.split(" ");
  let node: Command | CommandGroup = root;
  let rest = words ?? [];
  while (isGroup(node)) {
    const [word = ""] = rest;
    // A group alone, as in "the commands of bureau matrix".
    if (word === "" || word.startsWith("-")) return undefined;
    const next: Command | CommandGroup | undefined = node.commands.find(({ name }) => name === word);
    if (next === undefined) return `there is no "${word}" in "${node.name}"`;
    [node, rest] = [next, rest.slice(1)];
  }
  const known = shownFlags(node).map(([name]) => name);
  const flags = rest.flatMap((word) => /^--([a-z-]+)/.exec(word)?.[1] ?? []);
  const unknown = flags.filter((flag) => !known.includes(flag));
  return unknown.length === 0 ? undefined : `no --${unknown.join(", --")}`;
}

test("documentation prints commands and flags that exist", () => {
  const wrong = pages.flatMap((page) =>
    printed(readFileSync(join(repository, page), "utf8"))
      .filter((line) => called.test(line))
      .flatMap((line) => {
        const fault = faultOf(line);
        return fault === undefined ? [] : [`${page}: ${line}: ${fault}`];
      }),
  );
  expect(wrong).toEqual([]);
});

test("documentation never puts sudo before a name that is not on root's PATH", () => {
  const wrong = pages.filter((page) => readFileSync(join(repository, page), "utf8").includes("sudo bureau"));
  expect(wrong).toEqual([]);
});
