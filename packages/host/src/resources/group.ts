/** The system user's group and the operators' group. */
import * as v from "valibot";
import { withoutName } from "../system/account-lines.ts";
import { readAccounts } from "../system/accounts.ts";
import { changeAccounts, editShadow } from "./account-files.ts";
import { at, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("group"), name: v.string(), at }), {
  rank: 120,
  idOf: ({ name }) => name,
  describe: ({ name }) => `group ${name}`,
  whyStays: (_, { userStays }) => userStays,
  async takeBack({ name }, { record }) {
    if (readAccounts().group(name) !== undefined) await changeAccounts(record, ["groupdel", name]);
    await forgetShadowGroup(name);
  },
});

export const group = { entry };

/** Removes the line of a group that is gone. */
export const forgetShadowGroup = (name: string): Promise<void> =>
  editShadow("/etc/gshadow", (line) => withoutName(line, name));
