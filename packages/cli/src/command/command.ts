/**
 * What a command is. Each verb is one file, `src/<noun>/<verb>.ts`, which declares the command as data and runs it;
 * parsing, help, suggestions and shell completion use the declaration. `node:util`'s parseArgs does the parsing.
 *
 * The values that `run` gets are typed from the declaration: see {@link defineCommand}.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Terminal } from "./terminal.ts";

export type Flag = {
  readonly type: "string" | "boolean";
  /** A single letter. */
  readonly short?: string;
  /** May be given several times. */
  readonly multiple?: boolean;
  /** `PATH`, `URL`: the name of the value in help. */
  readonly value?: string;
  /** An empty value has a meaning: an empty state key, no description. */
  readonly mayBeEmpty?: boolean;
  /** Has a meaning only beside one of these; alone it is refused. */
  readonly needs?: readonly string[];
  /** Contradicts each of these, or would be ignored beside it. */
  readonly excludes?: readonly string[];
  /** Only the program itself sets it. Help and completion leave it out. */
  readonly hidden?: boolean;
  readonly summary: string;
};
export type Flags = Readonly<Record<string, Flag>>;

export type Positional = {
  readonly name: string;
  readonly summary: string;
  readonly optional?: boolean;
  /** Takes all remaining arguments. Only for the last one. */
  readonly rest?: boolean;
};
export type Positionals = readonly Positional[];

/** A boolean flag is false, and a repeatable one empty, unless it is given. */
type FlagValue<F extends Flag> = F extends { readonly type: "boolean" }
  ? boolean
  : F extends { readonly multiple: true }
    ? readonly string[]
    : string | undefined;
export type FlagValues<F extends Flags> = { readonly [Name in keyof F]: FlagValue<F[Name]> };

type ArgumentValue<P extends Positional> = P extends { readonly rest: true }
  ? readonly string[]
  : P extends { readonly optional: true }
    ? string | undefined
    : string;
type ArgumentValues<P extends Positionals> = {
  readonly [One in P[number] as One["name"]]: ArgumentValue<One>;
};

/** The value of any flag. */
export type AnyFlagValue = string | boolean | readonly string[] | undefined;
export type Env = Readonly<Record<string, string | undefined>>;

/** Where a command runs: what is not typed as a flag or an argument. */
export type CommandContext = { readonly terminal: Terminal; readonly env: Env };

/** What `run` gets: the values of a command's flags and arguments, and where it runs. */
export type Invocation<F extends Flags, P extends Positionals = readonly []> = CommandContext & {
  readonly args: ArgumentValues<P>;
  readonly flags: FlagValues<F>;
  /** All commands, for completion. */
  readonly root: CommandGroup;
};

/** A command without its code. Plain data: a build stores it as JSON. */
export type Declaration = {
  /** One line, no full stop, for lists. */
  readonly summary: string;
  /** More, for the command's own help. */
  readonly details?: string;
  readonly positionals?: Positionals;
  readonly flags?: Flags;
  readonly examples: readonly string[];
};

type AnyInvocation = CommandContext & {
  readonly args: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly flags: Readonly<Record<string, AnyFlagValue>>;
  readonly root: CommandGroup;
};
/** The exit code; 0 when `run` returns nothing. */
type ExitCode = Promise<number> | Promise<void>;

/** What a verb's file exports: its declaration and its code. */
export type CommandDefinition = Declaration & { run(invocation: AnyInvocation): ExitCode };

/** A command in the tree: its declaration, and how to get its code. */
export type Command = Declaration & {
  readonly name: string;
  /** Imports the implementation only when the command runs, so that `--help` stays quick. */
  readonly load: () => Promise<Pick<CommandDefinition, "run">>;
};

export type CommandGroup = {
  readonly name: string;
  readonly summary: string;
  readonly commands: readonly (Command | CommandGroup)[];
  readonly examples?: readonly string[];
};

export const isGroup = (node: Command | CommandGroup): node is CommandGroup => "commands" in node;

/** Keeps the literal types of a declaration of flags, from which the types of their values follow. */
export const defineFlags = <const F extends Flags>(flags: F): F => flags;
export const definePositionals = <const P extends Positionals>(positionals: P): P => positionals;

/** The same flags with a further rule for each. */
export const withRule = <F extends Flags>(flags: F, rule: Pick<Flag, "needs" | "excludes">): F =>
  Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, { ...flag, ...rule }])) as F;

/** Checks `run` against the declaration: it gets the flags and arguments that are declared, with their types. */
export function defineCommand<
  const F extends Flags = Readonly<Record<never, Flag>>,
  const P extends Positionals = readonly [],
>(
  definition: Omit<Declaration, "flags" | "positionals"> & {
    readonly flags?: F;
    readonly positionals?: P;
    run(invocation: Invocation<F, P>): ExitCode;
  },
): CommandDefinition {
  return definition as CommandDefinition;
}

/** Flags that every command has. */
export const commonFlags = defineFlags({
  help: { type: "boolean", short: "h", summary: "Show this help" },
});

/** The flags that help and completion show. */
export const shownFlags = ({ flags }: Pick<Declaration, "flags">): [name: string, flag: Flag][] =>
  Object.entries<Flag>({ ...flags, ...commonFlags }).filter(([, { hidden }]) => hidden !== true);

/** A usage error, or the command could not start: exit code 2. */
export class UsageError extends BureauError {
  constructor(message: string, hint: string, options: { cause?: unknown } = {}) {
    super("invalid-input", message, { hint, ...options });
  }
}
