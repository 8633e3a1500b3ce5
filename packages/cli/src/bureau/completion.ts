/** `bureau completion`: shell scripts made from the command tree. */
import { BureauError } from "@bureau/kit/errors";
import { type CommandGroup, commonFlags, type Invocation, isGroup } from "../command/command.ts";
import { root } from "../command-tree.ts";

export async function run(invocation: Invocation): Promise<void> {
  const shell = invocation.args[0] ?? "";
  const script = Object.hasOwn(shells, shell) ? shells[shell] : undefined;
  if (script === undefined)
    throw new BureauError("invalid-input", `There is no completion for "${shell}"`, {
      hint: "bash, zsh or fish",
    });
  invocation.terminal.print(script());
}

/** Every path of the tree with the words that may follow it. */
function words(group: CommandGroup = root, path: readonly string[] = []): [string, string[]][] {
  const own: [string, string[]] = [path.join(" "), group.commands.map((node) => node.name)];
  return [
    own,
    ...group.commands.flatMap((node): [string, string[]][] =>
      isGroup(node)
        ? words(node, [...path, node.name])
        : [
            [
              [...path, node.name].join(" "),
              Object.keys({ ...node.flags, ...commonFlags }).map((flag) => `--${flag}`),
            ],
          ],
    ),
  ];
}

function bash(): string {
  const cases = words().map(([path, next]) => `    "${path}") next="${next.join(" ")}" ;;`);
  return `_bureau() {
  local path="" word next=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  while :; do
    case "$path" in
${cases.join("\n")}
    esac
    [ -n "$next" ] || [ -z "$path" ] && break
    case "$path" in *" "*) path="\${path% *}" ;; *) path="" ;; esac
  done
  COMPREPLY=($(compgen -W "$next" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _bureau bureau`;
}

const zsh = (): string => `autoload -U +X bashcompinit && bashcompinit\n${bash()}`;

function fish(): string {
  return words()
    .flatMap(([path, next]) => {
      const typed =
        path === "" ? "__fish_use_subcommand" : `__fish_seen_subcommand_from ${path.split(" ").at(-1)}`;
      return next.map((word) =>
        word.startsWith("--")
          ? `complete -c bureau -n '${typed}' -l ${word.slice(2)}`
          : `complete -c bureau -f -n '${typed}' -a ${word}`,
      );
    })
    .join("\n");
}

const shells: Readonly<Record<string, () => string>> = { bash, zsh, fish };
