/**
 * A flag that is declared is read: the code that a command's `run` reaches names each of its flags, as `.name`, as
 * `{ name }` or as a string. Reachability follows the text: top-level declarations, and the names in each of them.
 * Declarations of flags themselves do not count.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root } from "../all-commands.ts";
import { type CommandPath, commandFiles } from "../command-files.ts";
import { allCommands } from "./help.ts";

type Module = {
  /** Name of a top-level declaration → its text. */
  readonly declared: ReadonlyMap<string, string>;
  /** Name in this file → the file it is imported from, and its name there. */
  readonly imported: ReadonlyMap<string, { readonly file: string; readonly name: string }>;
};

const declaration =
  /^(?:export )?(?:async )?(?:function\*?|const|let|class|type|interface) +(\w+)[^\n]*(?:\n(?!(?:export|async|function|const|let|class|type|interface|import)\b)[^\n]*)*/gmu;
const importing = /^import (?:type )?\{([^}]*)\} from "(\.[^"]+)";/gmu;

const modules = new Map<string, Module>();
function moduleOf(file: string): Module {
  const known = modules.get(file);
  if (known !== undefined) return known;
  const text = readFileSync(file, "utf8");
  const made: Module = {
    declared: new Map([...text.matchAll(declaration)].map(([body, name = ""]) => [name, body])),
    imported: new Map(
      [...text.matchAll(importing)].flatMap(([, names = "", from = ""]) =>
        names.split(",").flatMap((one) => {
          const [name = "", as = name] = one
            .trim()
            .replace(/^type /u, "")
            .split(" as ");
          return name === "" ? [] : [[as, { file: join(dirname(file), from), name }] as const];
        }),
      ),
    ),
  };
  modules.set(file, made);
  return made;
}

const access = /\bflags(?:\.(\w+)|\["([^"\n]+)"\])/gu;
const destructuring = /\b(?:const|let) \{([^{}]*)\} = [\w.]*\bflags\b/gu;

/** The flags that `text` reads by name. */
function flagsReadIn(text: string): string[] {
  const accessed = [...text.matchAll(access)].map(([, name, quoted]) => name ?? quoted ?? "");
  const taken = [...text.matchAll(destructuring)].flatMap(([, names = ""]) =>
    names.split(",").map((one) => one.split(":")[0]?.trim().replaceAll('"', "") ?? ""),
  );
  return [...accessed, ...taken];
}

/** Every flag that code reachable from `command` of `file` reads, and every string literal in it. */
function readFrom(file: string): Set<string> {
  const read = new Set<string>();
  const seen = new Set<string>();
  const visit = (where: string, what: string): void => {
    const module = moduleOf(where);
    const elsewhere = module.imported.get(what);
    if (elsewhere !== undefined) visit(elsewhere.file, elsewhere.name);
    const body = module.declared.get(what);
    if (body === undefined || seen.has(`${where} ${what}`) || body.includes("= defineFlags(")) return;
    seen.add(`${where} ${what}`);
    for (const flag of flagsReadIn(body)) read.add(flag);
    if (what !== "command") for (const [, literal = ""] of body.matchAll(/"([^"\n]+)"/gu)) read.add(literal);
    for (const [word] of body.matchAll(/\b[A-Za-z_]\w*\b/gu)) visit(where, word);
  };
  visit(file, "command");
  return read;
}

/** Flags that name the default: JSON output, a halt on failure. */
const saysTheUsual: Readonly<Record<string, string>> = {
  "matrix state get": "json",
  "debug plan": "json",
  "debug rooms": "json",
  "debug state": "json",
  "debug authorization": "json",
  "machine upgrade": "halt-on-error",
  "rollout start": "halt-on-error",
};

describe("each flag is read by its command", () => {
  for (const [path, command] of allCommands(root))
    test(path.join(" "), () => {
      const load = String(commandFiles[path.join(" ") as CommandPath]);
      const read = readFrom(join(import.meta.dir, "..", /import\("([^"]+)"\)/u.exec(load)?.[1] ?? ""));
      const unread = Object.keys(command.flags ?? {}).filter(
        (flag) => !read.has(flag) && saysTheUsual[path.join(" ")] !== flag,
      );
      expect(unread).toEqual([]);
    });
});

describe("the declaration of a flag", () => {
  for (const [path, command] of allCommands(root))
    test(`${path.join(" ")}: flags that belong to others name flags of the command`, () => {
      const flags = command.flags ?? {};
      for (const { needs = [], excludes = [] } of Object.values(flags))
        for (const other of [...needs, ...excludes]) expect(Object.keys(flags)).toContain(other);
    });
});
