/** The commands that are typed most and only read. */
export const readCommands = [
  "status",
  "whoami",
  "agent list",
  "agent show",
  "machine list",
  "machine show",
  "fleet list",
  "template list",
  "template show",
] as const;
export type ReadCommand = (typeof readCommands)[number];
