/**
 * A flag that is declared is read: every flag of every command is named by a string in the code that the command's `run`
 * reaches. Reached is found from the text: top-level declarations, and the names each of them mentions.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root } from "../command-tree.ts";
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

/** Every string literal reachable from `name` of `file`. */
function stringsReached(file: string, name: string): Set<string> {
  const strings = new Set<string>();
  const seen = new Set<string>();
  const visit = (where: string, what: string): void => {
    const module = moduleOf(where);
    const elsewhere = module.imported.get(what);
    if (elsewhere !== undefined) visit(elsewhere.file, elsewhere.name);
    const body = module.declared.get(what);
    if (body === undefined || seen.has(`${where} ${what}`)) return;
    seen.add(`${where} ${what}`);
    for (const [, literal = ""] of body.matchAll(/"([^"\n]+)"/gu)) strings.add(literal);
    for (const [word] of body.matchAll(/\b[A-Za-z_]\w*\b/gu)) visit(where, word);
  };
  visit(file, name);
  return strings;
}

/** Flags that name the default: JSON output, a halt on failure. */
const saysTheUsual: Readonly<Record<string, string>> = {
  "matrix state get": "json",
  "machine upgrade": "halt-on-error",
};

describe("each flag is read by its command", () => {
  for (const [path, command] of allCommands(root))
    test(path.join(" "), () => {
      const file = /import\("([^"]+)"\)/u.exec(String(command.load))?.[1] ?? "";
      const read = stringsReached(join(import.meta.dir, "..", file.replace(/^\.+\//u, "")), "run");
      const unread = Object.keys(command.flags ?? {}).filter(
        (flag) => !read.has(flag) && saysTheUsual[path.join(" ")] !== flag,
      );
      expect(unread).toEqual([]);
    });
});

describe("the tree's description of a flag", () => {
  for (const [path, command] of allCommands(root))
    test(`${path.join(" ")}: flags that belong to others name flags of the command`, () => {
      const flags = command.flags ?? {};
      for (const { needs = [], excludes = [] } of Object.values(flags))
        for (const other of [...needs, ...excludes]) expect(Object.keys(flags)).toContain(other);
    });
});
