/**
 * How a person types this program here, in this shell. Hints say `bureau …`; that is a command only where a `bureau` is
 * on PATH, and never behind sudo, which has a PATH of its own. Every hint is rewritten once, where it is printed.
 */
import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { shellWord } from "@bureau/kit/shell-words";
import { buildDir } from "@bureau/os/build-dir";
import { systemHost } from "@bureau/os/layout";
import { flagsOf } from "./find-command.ts";
import { replaceMentions } from "./replace-mentions.ts";

type Env = Readonly<Record<string, string | undefined>>;

export type CommandHost = {
  readonly env: Env;
  /** The instance that `--home` names. A hint without it would be about another one. */
  readonly home?: string | undefined;
  /** Root's own shell, which needs no sudo. */
  readonly isRoot: boolean;
  /** The program of that name on PATH. */
  readonly which: (name: string) => string | undefined;
  /** The program that runs; undefined where it runs from sources. */
  readonly own: string | undefined;
  /** Where a path leads in the end; undefined when there is nothing. */
  readonly resolve: (path: string) => string | undefined;
};

function thisHost(): CommandHost {
  return {
    env: process.env,
    home: homeNamedBy(process.argv.slice(2)),
    isRoot: process.getuid?.() === 0 && process.env["SUDO_USER"] === undefined,
    which: (name) => Bun.which(name) ?? undefined,
    own: ownProgram(),
    resolve: (path) => (existsSync(path) ? realpathSync(path) : undefined),
  };
}

/** The value of `--home` among the words of a command line. */
export function homeNamedBy(words: readonly string[]): string | undefined {
  const flags = flagsOf(words);
  const at = flags.findIndex((word) => word === "--home" || word.startsWith("--home="));
  return flags[at] === "--home" ? flags[at + 1] : flags[at]?.slice("--home=".length);
}

/** A failure here never prevents printing the hint. */
function ownProgram(): string | undefined {
  try {
    return join(buildDir(), "bin", "bureau");
  } catch {
    return undefined;
  }
}

/** The command that runs this program: `bureau`, `./bureau`, or a full path. */
export function typedCommand(host: CommandHost = thisHost()): string {
  const called = host.env["BUREAU_COMMAND"];
  if (called !== undefined && called !== "") return called;
  const onPath = host.which("bureau");
  const { own } = host;
  if (own === undefined || (onPath !== undefined && host.resolve(onPath) === host.resolve(own)))
    return "bureau";
  return host.resolve(systemHost.command) === undefined ? own : systemHost.command;
}

/** The command that runs this program as root: `sudo` and a path, because root's PATH does not contain it. */
export function typedAsRoot(host: CommandHost = thisHost()): string {
  const command = typedCommand(host);
  const path = command.includes("/") ? command : (host.which(command) ?? systemHost.command);
  return host.isRoot ? path : `sudo ${path}`;
}

/** `text` with every `bureau …` and `sudo bureau …` in it as it is typed here. */
export function asTyped(text: string, host: () => CommandHost = thisHost): string {
  return replaceMentions(text, {
    plain() {
      const here = host();
      const instance = here.home === undefined ? "" : `BUREAU_HOME=${shellWord(here.home)} `;
      return `${instance}${typedCommand(here)}`;
    },
    asRoot: () => typedAsRoot(host()),
  });
}
