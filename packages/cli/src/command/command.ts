/**
 * What a command is: a node of the tree `bureau <noun> <verb>`, described by data, so that parsing, help, nearest-name
 * suggestions and shell completion all come from one place. Parsing itself is `node:util`'s parseArgs.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Terminal } from "./terminal.ts";

export type Flag = {
  readonly type: "string" | "boolean";
  /** A single letter. */
  readonly short?: string;
  /** May be given several times. */
  readonly multiple?: boolean;
  /** `PATH`, `URL`: what the value is called in help. */
  readonly value?: string;
  /** An empty value means something: an empty state key, no description. */
  readonly mayBeEmpty?: boolean;
  /** Means something only beside one of these; alone it is refused. */
  readonly needs?: readonly string[];
  /** Contradicts each of these, or would be ignored beside it. */
  readonly excludes?: readonly string[];
  readonly summary: string;
};

export type Positional = {
  readonly name: string;
  readonly summary: string;
  readonly optional?: boolean;
  /** Takes all that is left. Only for the last one. */
  readonly rest?: boolean;
};

/** What a running command is handed. */
export type Invocation = {
  readonly args: readonly string[];
  readonly flags: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
  readonly terminal: Terminal;
  readonly env: Readonly<Record<string, string | undefined>>;
};

export type Command = {
  readonly name: string;
  /** One line, no full stop, for lists. */
  readonly summary: string;
  /** More, for the command's own help. */
  readonly details?: string;
  readonly positionals?: readonly Positional[];
  readonly flags?: Readonly<Record<string, Flag>>;
  readonly examples: readonly string[];
  /** Imports the implementation only when it is run, so that `--help` stays quick. */
  readonly load: () => Promise<{ readonly run: (invocation: Invocation) => Promise<number> | Promise<void> }>;
};

export type CommandGroup = {
  readonly name: string;
  readonly summary: string;
  readonly commands: readonly (Command | CommandGroup)[];
  readonly examples?: readonly string[];
};

export const isGroup = (node: Command | CommandGroup): node is CommandGroup => "commands" in node;

/** Flags that every command has. */
export const commonFlags: Readonly<Record<string, Flag>> = {
  help: { type: "boolean", short: "h", summary: "Show this help" },
};

export const jsonFlag: Readonly<Record<string, Flag>> = {
  json: { type: "boolean", summary: "Print the result as JSON" },
};

/** For commands that change accounts. */
export const adminTokenFlag = {
  "admin-token-file": {
    type: "string",
    value: "PATH",
    summary: "File with the access token of a server admin, when the administrator is not one",
  },
} as const satisfies Readonly<Record<string, Flag>>;

/** Which instance a command is about. */
export const homeFlag = {
  home: {
    type: "string",
    value: "DIR",
    summary: "The instance's folder (default: $BUREAU_HOME, else ~/.local/share/bureau)",
  },
} as const satisfies Readonly<Record<string, Flag>>;

/** How a command reaches Matrix. Each value falls back to the operator's session. */
export const sessionFlags: Readonly<Record<string, Flag>> = {
  ...homeFlag,
  "credential-file": {
    type: "string",
    value: "PATH",
    summary: "Credentials of an administrator, KEY=VALUE lines",
  },
  homeserver: { type: "string", value: "URL", summary: "The homeserver (default: the session's)" },
  "token-file": {
    type: "string",
    value: "PATH",
    summary: "File with an access token (default: the session's)",
  },
};

/** How an installation's programs reach the network. */
export const egressFlagTable: Readonly<Record<string, Flag>> = {
  "https-proxy": {
    type: "string",
    value: "URL",
    summary: 'Forward proxy for TLS to other hosts; http:// bypasses it ("" for none)',
  },
  "no-proxy": { type: "string", value: "HOSTS", summary: "Hosts to reach directly, comma-separated" },
  "ca-certs": {
    type: "string",
    value: "PATH",
    summary: 'Further certificate authorities: a PEM file, or a folder of them ("" for none)',
  },
};

/** A string flag's value, or undefined when it was not given. */
export function stringFlag(invocation: Pick<Invocation, "flags">, name: string): string | undefined {
  const value = invocation.flags[name];
  return typeof value === "string" ? value : undefined;
}

export const booleanFlag = (invocation: Invocation, name: string): boolean => invocation.flags[name] === true;

/** The values of a repeatable flag. */
export function listFlag(invocation: Invocation, name: string): string[] {
  const value = invocation.flags[name];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** The command was typed wrong, or could not begin: exit code 2. */
export class UsageError extends BureauError {
  constructor(message: string, hint: string, options: { cause?: unknown } = {}) {
    super("invalid-input", message, { hint, ...options });
  }
}
