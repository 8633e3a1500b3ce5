/**
 * The formats of a machine's own files that this build knows, and the one it writes (docs/upgrade.md, "When files
 * change their format"). The code works with the newest shape of each file; a format converts the content on the disk
 * to that shape and back.
 *
 * A change takes two releases, so that neighbouring releases can always upgrade and roll back: the first adds format
 * N+1 here and still writes N; the second writes N+1. Only the third may drop N.
 */

/**
 * Files whose shape only Bureau defines. The wire defines keys, sessions and watchdog records: no format changes them.
 */
export type StateKind = "completions" | "spec-history" | "upgrade-state" | "sandbox-record";

type Fields = Readonly<Record<string, unknown>>;

export type StateFormat = {
  /** Content on the disk, without its format number → the shape that the code works with. */
  readonly decode: (kind: StateKind, stored: Fields) => Fields;
  readonly encode: (kind: StateKind, value: Fields) => Fields;
};

/** The same shape on the disk and in the code. */
const plain: StateFormat = { decode: (_, stored) => stored, encode: (_, value) => value };

export const knownFormats: Readonly<Record<number, StateFormat>> = { 1: plain };

export const WRITTEN_FORMAT: number = 1;
