/** What a file and a link of ours share: their place, and what stood there before. */
import { dirname } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { removeDurably, removeTemporaries } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import * as v from "valibot";
import { restore, type Saved, SavedSchema, whyNotRestored } from "../record/saved.ts";
import { look } from "../system/look.ts";
import { mustRun, runCommand } from "../system/run-command.ts";
import { at, type FixContext, type Stage, type Stay } from "./resource.ts";

type Placed = { readonly path: string; readonly before?: Saved | undefined };

/** Fields of the entry's schema. */
export const placedFields = { path: v.string(), at, before: v.optional(SavedSchema) };

/** Installed programs, and what leads to them. */
export const stageOfPath = (path: string): Stage =>
  path.startsWith(systemHost.binDir) ||
  path.startsWith(systemHost.buildsDir) ||
  path === systemHost.profile ||
  path === dirname(systemHost.profile)
    ? "programs"
    : "first";

/** What an entry of a file or a link shares. One place has one entry, of either kind. */
export const placedEntry = {
  namespace: "path",
  idOf: ({ path }: Placed) => path,
  stageOf: ({ path }: Placed) => stageOfPath(path),
  whyStays: whyNotPutBack,
  // Ours is removed, whether or not what was there before can come back.
  goesAnyway: true,
  freedPath: ({ path, before }: Placed) => (before === undefined ? path : undefined),
  copiesOf: ({ before }: Placed) =>
    before === undefined ? undefined : before.kind === "file" ? [before.copy] : [],
  takeBack,
} as const;

/** Keeps what stands at `path`. @throws BureauError `conflict` for what cannot be kept, such as a folder */
export function keepWhatIsThere(path: string, act: string, { backups }: FixContext): { before?: Saved } {
  const { kind } = look(path);
  if (kind === "absent") return {};
  const before = backups.keep(path);
  if (before !== undefined) return { before };
  throw new BureauError("conflict", `Cannot ${act} "${path}": a ${kind} is in the way`, {
    hint: `move it away: ls -l ${path}`,
  });
}

function whyNotPutBack({ path, before }: Placed): Stay | undefined {
  const why = before && whyNotRestored({ ...before, path });
  return why === undefined
    ? undefined
    : { reason: "not-restored", why: `what was there before cannot be put back: ${why}` };
}

async function takeBack({ path, before }: Placed): Promise<void> {
  removeTemporaries(path);
  if (before !== undefined && whyNotRestored({ ...before, path }) === undefined) restore({ ...before, path });
  else if (look(path).kind !== "folder") removeDurably(path);
  if (dirname(path) === systemHost.unitDir) {
    await mustRun(["systemctl", "daemon-reload"]);
    await runCommand(["systemctl", "reset-failed", path.slice(systemHost.unitDir.length + 1)]);
  }
}
