/** A user's membership in a group. */
import * as v from "valibot";
import { withoutMember } from "../system/account-lines.ts";
import { readAccounts } from "../system/accounts.ts";
import { changeAccounts, editShadow, keepAccountFiles } from "./account-files.ts";
import { group as groupResource } from "./group.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const fields = { kind: v.literal("member"), user: v.string(), group: v.string() };

const entry = defineEntry(v.object({ ...fields, at }), {
  rank: 20,
  idOf: ({ user, group }) => `${user} ${group}`,
  describe: ({ user, group }) => `member ${user} of the group ${group}`,
  async takeBack({ user, group }, { record, userStays }) {
    // The membership goes with a group of ours that is removed.
    if (userStays === undefined && record.find(groupResource.entry, group) !== undefined) return;
    if (readAccounts().group(group)?.members.includes(user) === true)
      await changeAccounts(record, ["gpasswd", "-d", user, group]);
    await editShadow("/etc/gshadow", (line) => withoutMember(line, group, user));
  },
});

const action = defineAction(v.object(fields), {
  rank: 50,
  describe: ({ user, group }) => `add ${user} to the group ${group}`,
  record({ user, group }, { record, backups }) {
    if (!readAccounts().isMember(user, group)) record.intend(entry, { user, group });
    keepAccountFiles(record, backups);
  },
  apply: ({ user, group }, { record }) => changeAccounts(record, ["gpasswd", "-a", user, group]),
});

export const member = { action, entry };
