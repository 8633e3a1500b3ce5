/** The host's users and groups, as /etc/passwd and /etc/group say. */
import { readFileSync } from "node:fs";
import { readIfPresent } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { type Accounts, parseAccounts } from "./parse-accounts.ts";

export function readAccounts(): Accounts {
  return parseAccounts(readFileSync("/etc/passwd", "utf8"), readFileSync("/etc/group", "utf8"));
}

/**
 * The groups of the session that `uid` runs us from: our own, or those of the process above sudo. Undefined when they
 * cannot be found.
 */
export function sessionGroups(uid: number): readonly number[] | undefined {
  for (let pid = process.pid; pid > 1; ) {
    const status = readIfPresent(`/proc/${pid}/status`) ?? "";
    const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
    const ids = field("Uid").split(/\s+/).map(Number);
    if (ids[0] === uid && ids[1] === uid)
      return [Number(field("Gid").split(/\s+/)[1]), ...field("Groups").trim().split(/\s+/).map(Number)];
    const parent = Number(field("PPid"));
    if (!(parent > 0) || parent === pid) return undefined;
    pid = parent;
  }
  return undefined;
}

/** Goes before a command to run it as the system user, or as the overflow user while there is none; from root. */
export function asSystemUser(accounts: Accounts): string[] {
  const { uid, gid } = accounts.user(systemHost.user) ?? { uid: OVERFLOW_ID, gid: OVERFLOW_ID };
  return ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"];
}

/** Goes before a command to run it with the rights of the group `gid` and no others; from root. */
export const asOperator = (gid: number): string[] => [
  ...["setpriv", `--reuid=${OVERFLOW_ID}`, `--regid=${gid}`, "--clear-groups", "--"],
];

/** The kernel's overflow user and group, which own nothing (user_namespaces(7)). */
const OVERFLOW_ID = 65534;
