/** The files of the commands that are typed most and only read. A build makes a small bundle of them (read-program.ts). */
import type { CommandDefinition } from "./command/command.ts";
import type { ReadCommand } from "./read-command-names.ts";

/** Imports the file of a command. */
export type CommandFile = () => Promise<{ readonly command: CommandDefinition }>;

export const readCommandFiles = {
  status: () => import("./bureau/status.ts"),
  whoami: () => import("./bureau/whoami.ts"),
  "agent list": () => import("./agent/list.ts"),
  "agent show": () => import("./agent/show.ts"),
  "machine list": () => import("./machine/list.ts"),
  "machine show": () => import("./machine/show.ts"),
  "fleet list": () => import("./fleet/list.ts"),
  "template list": () => import("./template/list.ts"),
  "template show": () => import("./template/show.ts"),
} as const satisfies Readonly<Record<ReadCommand, CommandFile>>;
