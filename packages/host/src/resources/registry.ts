/** Every resource. A new one is a file of its own and a line here; types, plan, record and uninstall follow from it. */
import { assert } from "@bureau/kit/errors";
import * as v from "valibot";
import { type EntryBase, keyOf } from "../record/entry.ts";
import { accountFiles } from "./account-files.ts";
import { accounts } from "./accounts.ts";
import { apparmor } from "./apparmor.ts";
import { block } from "./block.ts";
import { build } from "./build.ts";
import { file } from "./file.ts";
import { folder } from "./folder.ts";
import { group } from "./group.ts";
import { joinedMachine } from "./joined-machine.ts";
import { link } from "./link.ts";
import { member } from "./member.ts";
import { ntp } from "./ntp.ts";
import { packageResource } from "./package.ts";
import { removedFile } from "./removed-file.ts";
import type { ActionBase, ActionKind, EntryKind, FixContext } from "./resource.ts";
import { sealedKey } from "./sealed-key.ts";
import { sysctl } from "./sysctl.ts";
import { tmuxSocket } from "./tmux-socket.ts";
import { unitEnablement } from "./unit-enablement.ts";
import { unitReload } from "./unit-reload.ts";
import { unitRestart } from "./unit-restart.ts";
import { unitStart } from "./unit-start.ts";
import { unitStop } from "./unit-stop.ts";
import { user } from "./user.ts";

const resources = [
  packageResource,
  file,
  block,
  user,
  group,
  accounts,
  accountFiles,
  member,
  folder,
  build,
  link,
  sysctl,
  apparmor,
  unitReload,
  unitStop,
  removedFile,
  sealedKey,
  joinedMachine,
  unitEnablement,
  tmuxSocket,
  unitRestart,
  unitStart,
  ntp,
] as const;

const actionKinds = resources.flatMap((resource) => ("action" in resource ? [resource.action] : []));
const entryKinds = resources.flatMap((resource) => ("entry" in resource ? [resource.entry] : []));

/** What `--fix` can do to a host, as data: checks name actions, the plan orders them. */
export type Action = v.InferOutput<(typeof actionKinds)[number]["schema"]>;

/** What the record can say: the union of all entries. */
export const EntrySchema = v.variant(
  "kind",
  entryKinds.map(({ schema }) => schema),
);

const actionsByKind = new Map<string, ActionKind>(actionKinds.map((kind) => [kind.kind, kind]));
const entriesByKind = new Map<string, EntryKind>(entryKinds.map((kind) => [kind.kind, kind]));

export function actionKindOf({ kind }: ActionBase): ActionKind {
  const found = actionsByKind.get(kind);
  assert(found !== undefined, `no resource has the action "${kind}"`);
  return found;
}

export function entryKindOf({ kind }: EntryBase): EntryKind {
  const found = entriesByKind.get(kind);
  assert(found !== undefined, `no resource has the entry "${kind}"`);
  return found;
}

/** What the action does, for a person. */
export const describeAction = (action: Action): string => actionKindOf(action).describe(action);

/** What the entry is about, for a person. */
export const describeEntry = (entry: EntryBase): string => entryKindOf(entry).describe(entry);

export function keyOfEntry(entry: EntryBase): string {
  const kind = entryKindOf(entry);
  return keyOf(kind, kind.idOf(entry));
}

/** Records, then applies. Root acts only on what the action's schema accepts. @throws BureauError */
export async function applyAction(action: Action, context: FixContext): Promise<void> {
  const kind = actionKindOf(action);
  v.assert(kind.schema, action);
  await kind.record?.(action, context);
  await kind.apply(action, context);
}
