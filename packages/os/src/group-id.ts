/** Groups of this host, as its file lists them: Bureau's own are system ones and never lie elsewhere. */
import { readFileSync } from "node:fs";

/** Undefined when there is no such group. */
export function groupIdOf(name: string): number | undefined {
  const group = readFileSync("/etc/group", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .find(([found]) => found === name);
  return group === undefined ? undefined : Number(group[2]);
}
