/** The order of an uninstall. */
import type { EntryBase } from "../record/entry.ts";
import { entryKindOf } from "../resources/registry.ts";
import { stages } from "../resources/resource.ts";

/** The entries in the order they are taken back. Pure. */
export function planUninstall<E extends EntryBase>(entries: readonly E[]): E[] {
  const ranks = (entry: E): readonly [number, number] => {
    const kind = entryKindOf(entry);
    return [stages.indexOf(kind.stageOf?.(entry) ?? "first"), kind.rank];
  };
  // Folders below go before those above: they were made later.
  return entries.toReversed().sort((a, b) => {
    const [[stageA, rankA], [stageB, rankB]] = [ranks(a), ranks(b)];
    return stageA - stageB || rankA - rankB;
  });
}
