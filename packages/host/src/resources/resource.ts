/**
 * What a resource is: one kind of thing that Bureau makes or does on a host. A resource is one file in this folder, listed
 * in `registry.ts`. It has an action (what `--fix` does), an entry (what the record says, and how an uninstall takes it
 * back), or both.
 *
 * An action first records what it is about to change, with a backup of what it replaces, and then applies. Both can be cut
 * off anywhere and done again.
 */
import * as v from "valibot";
import type { Backups } from "../record/backups.ts";
import type { EntryBase, Identified } from "../record/entry.ts";
import type { InstallRecord } from "../record/install-record.ts";

export type FixContext = {
  readonly record: InstallRecord;
  readonly backups: Backups;
  /** Text of the bootstrap file, when one was given. */
  readonly bootstrap: string | undefined;
};

export type ActionBase = { readonly kind: string };

type KindSchema = v.LiteralSchema<string, undefined>;
type ActionSchema = v.ObjectSchema<{ readonly kind: KindSchema } & v.ObjectEntries, undefined>;

// Methods, not function properties: the registry holds resources of different actions in one list.
type ActionDefinition<A> = {
  /** Actions of a lower rank come first: a folder's owner must exist, a unit's program must be installed. */
  readonly rank: number;
  /** For a person. */
  describe(action: A): string;
  /** Notes what {@link apply} will change. */
  record?(action: A, context: FixContext): void | Promise<void>;
  /** @throws BureauError */
  apply(action: A, context: FixContext): void | Promise<void>;
  /** How often one run tries it; default 2. 1 for an action that uses something up or takes long. */
  readonly attemptsMax?: number;
  /** When it fails, nothing after it can succeed. */
  readonly isVital?: true;
  /** Programs start: the doctor waits for them before it looks again. */
  readonly startsPrograms?: true;
  /** Another action of the plan does the same. */
  isCovered?(action: A, plan: readonly ActionBase[]): boolean;
};

export type ActionKind = ActionDefinition<ActionBase> & {
  readonly kind: string;
  readonly schema: v.GenericSchema<unknown, ActionBase>;
};

export const defineAction = <const S extends ActionSchema>(
  schema: S,
  definition: ActionDefinition<v.InferOutput<S>>,
) => ({ ...definition, schema, kind: schema.entries.kind.literal });

/** Why something stays after an uninstall. */
export type Stay = {
  /**
   * `asked`: as the options say. `needed`: something else needs it. `changed`: others changed it since. `holds-others`: a
   * folder holds files that are not Bureau's. `not-restored`: what was there before cannot be put back.
   */
  readonly reason: "asked" | "needed" | "changed" | "holds-others" | "not-restored";
  /** For a person. */
  readonly why: string;
};

export type UninstallOptions = {
  readonly removeUser: boolean;
  readonly removePackages: boolean;
  /** Files in workspace and cache; undefined: refuse when there are any. */
  readonly data: "keep" | "discard" | undefined;
};

/** Host and record at one moment. A dry run predicts them. */
export type Moment = {
  readonly entries: readonly EntryBase[];
  /** The names in a folder; undefined when there is no such folder. */
  readonly namesIn: (path: string) => readonly string[] | undefined;
  readonly options: UninstallOptions;
  /** Why user and groups stay; undefined when they go. */
  readonly userStays: Stay | undefined;
  /** An entry is left whose backups are not restored. */
  readonly needsBackups: () => boolean;
};

type UninstallContext = {
  readonly record: InstallRecord;
  readonly userStays: Stay | undefined;
};

/** Entries of a later stage go after all of an earlier one. `programs`: an uninstall can be run again from them. */
export const stages = ["first", "programs", "last"] as const;
export type Stage = (typeof stages)[number];

type EntrySchema = v.ObjectSchema<
  { readonly kind: KindSchema; readonly at: v.StringSchema<undefined> } & v.ObjectEntries,
  undefined
>;

type EntryDefinition<E> = Pick<Identified<E>, "idOf" | "namespace"> & {
  /** Within a stage, entries of a lower rank go first: what runs, what starts it, what it needed. */
  readonly rank: number;
  /** Default `first`. */
  stageOf?(entry: E): Stage;
  /** For a person. */
  describe(entry: E): string;
  /** Why it stays, or something of it; undefined when it goes. Changes nothing. */
  whyStays?(entry: E, moment: Moment): Stay | undefined | Promise<Stay | undefined>;
  /** It is removed also when {@link whyStays} says that something stays. */
  readonly goesAnyway?: true;
  /** The path that is free afterwards. */
  freedPath?(entry: E): string | undefined;
  /** Copies in the backups that {@link takeBack} restores; undefined when it needs no backups. */
  copiesOf?(entry: E): readonly string[] | undefined;
  /** Removes it, or puts back what was there before. Returns what of it stays, where only the act shows that. */
  takeBack(entry: E, context: UninstallContext): void | Promise<void> | Promise<Stay | undefined>;
};

export type EntryKind = EntryDefinition<EntryBase> & Identified<EntryBase>;

export const defineEntry = <const S extends EntrySchema>(
  schema: S,
  definition: EntryDefinition<v.InferOutput<S>>,
) => {
  const kind = schema.entries.kind.literal;
  return {
    ...definition,
    schema,
    kind,
    isOf: (entry: EntryBase): entry is EntryBase & v.InferOutput<S> => entry.kind === kind,
  };
};

/** When the entry was noted. */
export const at = v.string();
