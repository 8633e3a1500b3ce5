/** Groups of this host, from its group file: Bureau's groups are system groups and always in that file. */
import { readFileSync } from "node:fs";

/** Undefined when there is no such group. */
export function groupIdOf(name: string): number | undefined {
  const group = readFileSync("/etc/group", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .find(([found]) => found === name);
  return group === undefined ? undefined : Number(group[2]);
}
