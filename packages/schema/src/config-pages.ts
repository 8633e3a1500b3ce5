/**
 * The pages of a machine's configuration: an event holds 64 KiB, which is 350 short assignments. The ones that do not fit into
 * `machine_config` are in pages beside it. All of them are read as one list: `machine_config` first, then the pages by number.
 *
 * A page, once written, stays: one without assignments has an empty list. So pages have no gap, and a reader that finds no
 * page N knows that there is none after it. A principal is in one place; in a second place it is a fault, and the first counts.
 */
import { assignedUser } from "./assigned-user.ts";

/** 64 pages of 48 kB hold some 4,500 assignments with payloads of 500 bytes. */
export const CONFIG_PAGES_MAX = 64;

export const configPageKey = (number: number): string => String(number);

/** The number of a page; undefined for a key that is not a page's. */
export function configPageNumber(key: string): number | undefined {
  const number = /^[1-9]\d?$/u.test(key) ? Number(key) : 0;
  return number >= 1 && number <= CONFIG_PAGES_MAX ? number : undefined;
}

export type JoinedEntries = {
  /** The same objects as in the lists. */
  readonly entries: readonly unknown[];
  /** Principals that a later list holds again. */
  readonly repeated: readonly string[];
};

/** Joins lists of assignments. A list leaves out principals of earlier lists; what one list repeats, stays. */
export function joinEntries(lists: readonly (readonly unknown[])[]): JoinedEntries {
  if (lists.length <= 1) return { entries: lists[0] ?? [], repeated: [] };
  const seen = new Set<string>();
  const repeated = new Set<string>();
  const entries = lists.flatMap((list) => {
    const kept = list.filter((entry) => {
      const user = assignedUser(entry);
      if (user === undefined || !seen.has(user)) return true;
      repeated.add(user);
      return false;
    });
    for (const user of kept.map(assignedUser)) if (user !== undefined) seen.add(user);
    return kept;
  });
  return { entries, repeated: [...repeated] };
}
