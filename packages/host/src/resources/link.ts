/** A symbolic link with its owner. */
import { lchownSync, lstatSync, symlinkSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { replaceWith } from "@bureau/os/durable-file";
import * as v from "valibot";
import { readAccounts } from "../system/accounts.ts";
import { targetOf } from "../system/look.ts";
import type { User } from "../system/parse-accounts.ts";
import { makeParents } from "./folder.ts";
import { keepWhatIsThere, placedEntry, placedFields } from "./placed-path.ts";
import { defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("link"), ...placedFields }), {
  ...placedEntry,
  rank: 80,
  describe: ({ path }) => `link ${path}`,
});

const action = defineAction(
  v.object({ kind: v.literal("link"), path: v.string(), target: v.string(), owner: v.string() }),
  {
    rank: 80,
    describe: ({ path, target }) => `link ${path} → ${target}`,
    record(wanted, context) {
      if (isThere(wanted)) return;
      ownerOf(wanted);
      const { path } = wanted;
      context.record.intend(entry, { path, ...keepWhatIsThere(path, "link", context) });
    },
    apply(wanted, { record }) {
      if (isThere(wanted)) return;
      const { path, target } = wanted;
      const { uid, gid } = ownerOf(wanted);
      makeParents(path, record);
      replaceWith(path, (temporary) => {
        symlinkSync(target, temporary);
        lchownSync(temporary, uid, gid);
      });
    },
  },
);

export const link = { action, entry };

type Wanted = { readonly path: string; readonly target: string; readonly owner: string };

const isThere = ({ path, target, owner }: Wanted): boolean =>
  targetOf(path) === target && lstatSync(path).uid === readAccounts().user(owner)?.uid;

function ownerOf({ path, owner }: Wanted): User {
  const user = readAccounts().user(owner);
  if (user !== undefined) return user;
  throw new BureauError("not-found", `Cannot give "${path}" to ${owner}: no such user`);
}
