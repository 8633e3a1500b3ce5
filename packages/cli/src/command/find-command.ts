/**
 * Finds what was typed in a tree of groups and commands, and whether help for it is wanted. The tree may be the commands
 * themselves or their help pages: both answer the same words with the same place.
 */

export type Found<Node> = {
  readonly node: Node;
  /** From the root's name on. */
  readonly path: readonly string[];
} & (
  | { readonly kind: "help" }
  | { readonly kind: "command"; readonly rest: readonly string[] }
  /** `node` is a group without a command of this name. */
  | { readonly kind: "unknown"; readonly word: string }
);

/** `commandsOf` is undefined for a command. */
export function findCommand<Node extends { readonly name: string }>(
  root: Node,
  argv: readonly string[],
  commandsOf: (node: Node) => readonly Node[] | undefined,
  above: readonly string[] = [],
): Found<Node> {
  const path = [...above, root.name];
  const commands = commandsOf(root);
  if (commands === undefined)
    return flagsOf(argv).some(isHelpFlag)
      ? { kind: "help", node: root, path }
      : { kind: "command", node: root, path, rest: argv };
  const [word, ...rest] = argv;
  if (word === undefined || isHelpFlag(word)) return { kind: "help", node: root, path };
  // `bureau help agent create` is `bureau agent create --help`.
  if (word === "help") return findCommand(root, [...rest, "--help"], commandsOf, above);
  const next = commands.find(({ name }) => name === word);
  if (next === undefined) return { kind: "unknown", node: root, path, word };
  return findCommand(next, rest, commandsOf, path);
}

const isHelpFlag = (word: string): boolean => word === "--help" || word === "-h";

/** Arguments after "--" are text, even when they look like flags. */
export function flagsOf(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf("--");
  return end < 0 ? argv : argv.slice(0, end);
}
