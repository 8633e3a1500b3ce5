/**
 * The help of the command line, checked over the whole command tree: every command, argument and flag has help text in
 * one form. Flags that only Bureau's own programs pass are hidden, so no page of docs/ shows them. Pure.
 */
import type { Violation } from "../dependency-arrows.ts";

type Described = { readonly summary: string };
type FlagLike = Described & {
  readonly type: "string" | "boolean";
  readonly value?: string;
  readonly hidden?: boolean;
};
type Node = Described & {
  readonly name: string;
  readonly flags?: Readonly<Record<string, FlagLike>>;
  readonly positionals?: readonly (Described & { readonly name: string })[];
  readonly commands?: readonly Node[];
};

/** A line of help fits beside its flag in a terminal of usual width. */
const SUMMARY_CHARS_MAX = 120;

/** `docs`: the texts that people read (path → text). */
export function checkFlagHelp(root: Node, docs: ReadonlyMap<string, string>): Violation[] {
  // The summary of the root is the heading of its help, a whole sentence.
  const all = commandsOf(root, []).slice(1);
  return all.flatMap(([path, node]) => {
    const flags = Object.entries(node.flags ?? {});
    const parts: [string, string][] = [
      ["", node.summary],
      ...(node.positionals ?? []).map(({ name, summary }): [string, string] => [
        ` ${name.toUpperCase()}`,
        summary,
      ]),
      ...flags.map(([name, { summary }]): [string, string] => [` --${name}`, summary]),
    ];
    const command = path.join(" ");
    return [
      ...parts.flatMap(([part, summary]) => {
        const fault = faultOf(summary);
        return fault === undefined
          ? []
          : [`${command}${part}: its help ${fault}: ${JSON.stringify(summary)}`];
      }),
      ...flags.flatMap(([name, flag]) => faultsOfFlag(`${command} --${name}`, name, flag, docs)),
    ];
  });
}

function commandsOf(node: Node, above: readonly string[]): [readonly string[], Node][] {
  const path = [...above, node.name];
  return [[path, node], ...(node.commands ?? []).flatMap((child) => commandsOf(child, path))];
}

function faultOf(summary: string): string | undefined {
  if (summary.trim().length < 5) return "is missing";
  if (summary.includes("\n") || summary.length > SUMMARY_CHARS_MAX) return "is not one short line";
  return /[^.]\.$/u.test(summary) && !/\.\s/u.test(summary) ? "ends with a full stop" : undefined;
}

function faultsOfFlag(
  where: string,
  name: string,
  flag: FlagLike,
  docs: ReadonlyMap<string, string>,
): Violation[] {
  const violations: Violation[] = [];
  if (flag.type === "string" && flag.hidden !== true && flag.value === undefined)
    violations.push(`${where}: its help names no value, such as PATH`);
  const word = new RegExp(`(?<![\\w-])--${name}(?![\\w-])`, "u");
  for (const [path, text] of flag.hidden === true ? docs : [])
    if (word.test(text)) violations.push(`${path}: shows ${where}, which is hidden`);
  return violations;
}
