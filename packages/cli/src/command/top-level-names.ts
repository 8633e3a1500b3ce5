/** The first words after `bureau`. Hints are searched for them without loading the commands. */
export const topLevelNames: readonly string[] = [
  "up",
  "down",
  "status",
  "login",
  "whoami",
  "agent",
  "service",
  "machine",
  "fleet",
  "rollout",
  "template",
  "matrix",
  "audit",
  "debug",
  "completion",
  "version",
];
