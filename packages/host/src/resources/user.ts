/** The system user. */
import * as v from "valibot";
import { withoutName } from "../system/account-lines.ts";
import { readAccounts } from "../system/accounts.ts";
import { changeAccounts, editShadow } from "./account-files.ts";
import { at, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("user"), name: v.string(), at }), {
  rank: 110,
  idOf: ({ name }) => name,
  describe: ({ name }) => `user ${name}`,
  whyStays: (_, { userStays }) => userStays,
  async takeBack({ name }, { record }) {
    if (readAccounts().user(name) !== undefined) await changeAccounts(record, ["userdel", name]);
    await forgetShadowUser(name);
  },
});

export const user = { entry };

/** Removes the line of a user that is gone. */
export const forgetShadowUser = (name: string): Promise<void> =>
  editShadow("/etc/shadow", (line) => withoutName(line, name));
