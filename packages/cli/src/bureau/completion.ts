/** `bureau completion`: shell scripts made from the command tree. */
import { BureauError } from "@bureau/kit/errors";
import {
  type CommandGroup,
  defineCommand,
  definePositionals,
  type Flag,
  type Invocation,
  isGroup,
  shownFlags,
} from "../command/command.ts";

const positionals = definePositionals([{ name: "shell", summary: "bash, zsh or fish" }]);
type Asked = Invocation<Readonly<Record<never, Flag>>, typeof positionals>;

export const command = defineCommand({
  summary: "Print a completion script for your shell",
  positionals,
  examples: ["bureau completion bash > ~/.local/share/bash-completion/completions/bureau"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const shell = invocation.args.shell;
  const script = Object.hasOwn(shells, shell) ? shells[shell] : undefined;
  if (script === undefined)
    throw new BureauError("invalid-input", `There is no completion for "${shell}"`, {
      hint: "bash, zsh or fish",
    });
  invocation.terminal.print(script(words(invocation.root)));
}

/** A path of the tree, and the words that may follow it. */
type Words = readonly (readonly [path: string, next: readonly string[]])[];

function words(group: CommandGroup, path: readonly string[] = []): Words {
  const own: Words[number] = [path.join(" "), group.commands.map((node) => node.name)];
  return [
    own,
    ...group.commands.flatMap(
      (node): Words =>
        isGroup(node)
          ? words(node, [...path, node.name])
          : [[[...path, node.name].join(" "), shownFlags(node).map(([flag]) => `--${flag}`)]],
    ),
  ];
}

function bash(words: Words): string {
  const cases = words.map(([path, next]) => `    "${path}") next="${next.join(" ")}" ;;`);
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

const zsh = (words: Words): string => `autoload -U +X bashcompinit && bashcompinit\n${bash(words)}`;

function fish(words: Words): string {
  return words
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

const shells: Readonly<Record<string, (words: Words) => string>> = { bash, zsh, fish };
