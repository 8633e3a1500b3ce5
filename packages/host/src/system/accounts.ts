/** The host's users and groups, as /etc/passwd and /etc/group say. */
import { readFileSync } from "node:fs";
import { readIfPresent } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";

export type User = {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly shell: string;
};
export type Group = { readonly name: string; readonly gid: number; readonly members: readonly string[] };

export type Accounts = {
  user(name: string): User | undefined;
  group(name: string): Group | undefined;
  /** `bureau`, or the number where nobody has it. */
  userName(uid: number): string;
  groupName(gid: number): string;
  /** True when `user` is in `group`, by its line or as its first group. */
  isMember(user: string, group: string): boolean;
};

export function readAccounts(): Accounts {
  return parseAccounts(readFileSync("/etc/passwd", "utf8"), readFileSync("/etc/group", "utf8"));
}

export function parseAccounts(passwd: string, groupFile: string): Accounts {
  const users = lines(passwd).map(([name = "", , uid, gid, , , shell = ""]) => ({
    ...{ name, uid: Number(uid), gid: Number(gid), shell },
  }));
  const groups = lines(groupFile).map(([name = "", , gid, members = ""]) => ({
    ...{ name, gid: Number(gid), members: members.split(",").filter((member) => member !== "") },
  }));
  const user = (name: string): User | undefined => users.find((candidate) => candidate.name === name);
  const group = (name: string): Group | undefined => groups.find((candidate) => candidate.name === name);
  return {
    user,
    group,
    userName: (uid) => users.find((candidate) => candidate.uid === uid)?.name ?? String(uid),
    groupName: (gid) => groups.find((candidate) => candidate.gid === gid)?.name ?? String(gid),
    isMember(name, of) {
      const found = group(of);
      return found !== undefined && (found.members.includes(name) || user(name)?.gid === found.gid);
    },
  };
}

const lines = (text: string): string[][] =>
  text
    .split("\n")
    .filter((line) => line.includes(":"))
    .map((line) => line.split(":"));

/**
 * The groups of the session that `uid` runs us from: our own, or those of the process above sudo. Undefined when they
 * cannot be told.
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

/** Put before a command to run it as the system user, or as nobody where there is none yet; from root. */
export function asSystemUser(accounts: Accounts): string[] {
  const { uid, gid } = accounts.user(systemHost.user) ?? { uid: NOBODY, gid: NOBODY };
  return ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"];
}

/** Put before a command to run it with the rights that an operator has of the group `gid`, and no others; from root. */
export const asOperator = (gid: number): string[] => [
  ...["setpriv", `--reuid=${NOBODY}`, `--regid=${gid}`, "--clear-groups", "--"],
];

/** The kernel's overflow user, which owns nothing (user_namespaces(7)). */
const NOBODY = 65534;
