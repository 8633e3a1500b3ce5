/**
 * What every entry of the record has, and how the record tells entries apart. Each resource defines the rest of its
 * entries itself (`resources/`), so the record never lists them.
 */

/** `at` is when Bureau noted it: an ISO 8601 time. */
export type EntryBase = { readonly kind: string; readonly at: string };

/** What a resource notes: the record adds the kind and the time. */
export type FieldsOf<E> = Omit<E, "kind" | "at">;

/** What the record needs to know of one kind of entry. */
export type Identified<E> = {
  readonly kind: string;
  /** Two entries with the same namespace and id are about the same thing. Default: the kind. */
  readonly namespace?: string;
  idOf(fields: FieldsOf<E>): string;
  isOf(entry: EntryBase): entry is EntryBase & E;
};

export const keyOf = ({ kind, namespace = kind }: { kind: string; namespace?: string }, id: string): string =>
  `${namespace} ${id}`;

/** The path of an entry about a path. */
export const pathOf = (entry: EntryBase): string | undefined =>
  "path" in entry && typeof entry.path === "string" ? entry.path : undefined;
