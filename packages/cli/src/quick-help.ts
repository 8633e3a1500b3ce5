/**
 * Answers `bureau --help` and help for every command without the commands: of the program it loads only the texts. It leaves
 * to the program what it cannot answer from them: unknown words, and how `bureau` is typed where links decide that.
 */
import { findCommand, flagsOf } from "./command/find-command.ts";
import { replaceMentions } from "./command/replace-mentions.ts";
import { helpPages, systemCommand } from "./help-pages.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** The help that is asked for, as typed on this host. Undefined: the program has to answer. */
export function quickHelp(argv: readonly string[], env: Env): string | undefined {
  const found = findCommand(helpPages, argv, ({ pages }) => pages);
  if (found.kind !== "help") return undefined;
  // The name of an instance is part of the command.
  if (flagsOf(argv).some((word) => word.startsWith("--home"))) return undefined;
  const typed = quickTypedCommand(env);
  const { text } = found.node;
  if (typed === undefined || text.includes("sudo bureau ")) return undefined;
  return replaceMentions(text, { plain: () => typed, asRoot: () => typed });
}

/**
 * What `typedCommand` of command/typed-command.ts returns, where no other `bureau` is on this host. It asks the runtime
 * itself for executables: importing node:fs takes half as long as starting the runtime (Bun 1.4.5).
 */
function quickTypedCommand(env: Env): string | undefined {
  const called = env["BUREAU_COMMAND"];
  if (called !== undefined && called !== "") return called;
  if (env["BUREAU_PROGRAMS_DIR"] !== undefined) return undefined;
  if (Bun.which("bureau") !== null || Bun.which(systemCommand) !== null) return undefined;
  // In a build of links the program's own path leads elsewhere.
  return Bun.which(Bun.main.replace(/\/lib\/bureau\/main\.js$/u, "/bin/bureau")) ?? undefined;
}
