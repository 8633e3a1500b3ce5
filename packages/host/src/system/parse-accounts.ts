/** Users and groups, from the texts of /etc/passwd and /etc/group. */

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
  /** `bureau`, or the number when no user has it. */
  userName(uid: number): string;
  groupName(gid: number): string;
  /** True when the group is the primary group of the user, or its line names the user. */
  isMember(user: string, group: string): boolean;
};

export function parseAccounts(passwd: string, groupFile: string): Accounts {
  const users = lines(passwd).map(([name = "", , uid, gid, , , shell = ""]) => ({
    name,
    uid: Number(uid),
    gid: Number(gid),
    shell,
  }));
  const groups = lines(groupFile).map(([name = "", , gid, members = ""]) => ({
    name,
    gid: Number(gid),
    members: members.split(",").filter((member) => member !== ""),
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
