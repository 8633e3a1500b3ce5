/**
 * The formats of a machine's own files that this build knows, and the one it writes (docs/upgrade.md, "When files change
 * their format"). The code knows one shape of each file, the newest; a format says how what lies on the disk becomes that
 * and back.
 *
 * A change takes two releases, so that neighbours always go both ways: the first adds format N+1 here and still writes N;
 * the second writes N+1. Only the one after that may leave out N.
 */

/** Files whose shape is ours alone. Keys, sessions and watchdog records are the wire's, and never change with a format. */
export type StateKind = "completions" | "spec-history" | "upgrade-state" | "sandbox-record";

type Fields = Readonly<Record<string, unknown>>;

export type StateFormat = {
  /** What lies on the disk, without its version → what the code works with. */
  readonly decode: (kind: StateKind, stored: Fields) => Fields;
  readonly encode: (kind: StateKind, value: Fields) => Fields;
};

/** On the disk as in the code. */
const plain: StateFormat = { decode: (_, stored) => stored, encode: (_, value) => value };

export const knownFormats: Readonly<Record<number, StateFormat>> = { 1: plain };

export const WRITTEN_FORMAT: number = 1;
