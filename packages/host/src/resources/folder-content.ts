/** Why a folder stays for what is in it. */
import { join } from "node:path";
import { type EntryBase, pathOf } from "../record/entry.ts";
import type { Stay } from "./resource.ts";

/** Why a folder with these names in it stays; undefined when it can go. Pure. */
export function whyNotEmpty(
  path: string,
  names: readonly string[],
  entries: readonly EntryBase[],
): Stay | undefined {
  const isRecorded = (below: string): boolean =>
    entries.some((known) => `${pathOf(known) ?? ""}/`.startsWith(`${below}/`));
  const others = names.filter((name) => !isRecorded(join(path, name)));
  if (others.length > 0) return holdsOthers(others);
  return names.length > 0 ? { reason: "needed", why: "it holds kept items" } : undefined;
}

export const holdsOthers = (names: readonly string[]): Stay => ({
  reason: "holds-others",
  why: `it holds files that are not Bureau's: ${names.slice(0, 5).join(", ")}`,
});
