/** User and groups, made by systemd-sysusers from its file of ours. */
import { systemHost } from "@bureau/os/layout";
import * as v from "valibot";
import { readAccounts } from "../system/accounts.ts";
import { changeAccounts, keepAccountFiles } from "./account-files.ts";
import { forgetShadowGroup, group } from "./group.ts";
import { defineAction } from "./resource.ts";
import { forgetShadowUser, user } from "./user.ts";

const groups = [systemHost.user, systemHost.operatorsGroup];

const action = defineAction(v.object({ kind: v.literal("accounts") }), {
  rank: 40,
  isVital: true,
  describe: () => "make the system user and the groups (systemd-sysusers)",
  async record(_, { record, backups }) {
    const accounts = readAccounts();
    if (accounts.user(systemHost.user) === undefined) {
      // Lines that an interrupted uninstall of ours left would keep systemd-sysusers from making them.
      if (record.find(user.entry, systemHost.user) !== undefined) await forgetShadowUser(systemHost.user);
      record.intend(user.entry, { name: systemHost.user });
    }
    for (const name of groups) {
      if (accounts.group(name) !== undefined) continue;
      if (record.find(group.entry, name) !== undefined) await forgetShadowGroup(name);
      record.intend(group.entry, { name });
    }
    keepAccountFiles(record, backups);
  },
  apply: (_, { record }) => changeAccounts(record, ["systemd-sysusers", systemHost.sysusers]),
});

export const accounts = { action };
