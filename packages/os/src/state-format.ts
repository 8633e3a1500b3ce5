/**
 * The format of a machine's state files: one number for all of them, in every file, and in a stamp in their folder that
 * lists each format that may occur there. Every program migrates its folder when it starts: when it cannot read a
 * format there, it changes nothing and does not start; otherwise it writes every file in its own format. It widens the
 * stamp before it writes the first file and narrows it after the last, so that the stamp is true after any crash.
 *
 * A folder without a stamp has format 1.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { InputError, parse, parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { readIfPresent, writeDurably } from "./durable-file.ts";
import { knownFormats, type StateKind, WRITTEN_FORMAT } from "./state-formats.ts";

/** The formats that a build's manifest declares. */
export type StateFormats = { readonly reads: readonly number[]; readonly writes: number };

/** Those of this build. */
export const stateFormats: StateFormats = {
  reads: Object.keys(knownFormats).map(Number),
  writes: WRITTEN_FORMAT,
};

/** Those of a build whose manifest declares none: it is older than format 2. */
export const firstFormats: StateFormats = { reads: [1], writes: 1 };

const FIRST = [1];
const StampSchema = v.object({ formats: v.pipe(v.array(v.pipe(v.number(), v.integer())), v.minLength(1)) });
const VersionSchema = v.looseObject({ version: v.pipe(v.number(), v.integer()) });

/** The text of a file in the format this build writes. */
export function encodeState(kind: StateKind, value: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ version: WRITTEN_FORMAT, ...knownFormats[WRITTEN_FORMAT]?.encode(kind, value) });
}

/**
 * @throws InputError when it cannot be understood; BureauError, see {@link isTooNew}, when it is of an unknown format
 */
export function decodeState<const Schema extends v.GenericSchema>(
  kind: StateKind,
  schema: Schema,
  text: string,
  what: string,
): v.InferOutput<Schema> {
  return parse(schema, decodeFields(kind, text, what), what);
}

function decodeFields(kind: StateKind, text: string, what: string): Readonly<Record<string, unknown>> {
  const { version, ...stored } = parseJson(VersionSchema, text, what);
  requireReadable(what, [version]);
  return knownFormats[version]?.decode(kind, stored) ?? stored;
}

/** The file has a format that this build cannot read. Leave it unchanged. */
export const isTooNew = (error: unknown): boolean => isBureauError(error) && error.code === "unsupported";

function requireReadable(what: string, formats: readonly number[]): void {
  const unknown = formats.filter((format) => !stateFormats.reads.includes(format));
  if (unknown.length === 0) return;
  throw new BureauError(
    "unsupported",
    `Cannot read ${what}: it is in ${named(unknown)}, and this version of Bureau reads ${named(stateFormats.reads)}`,
    { hint: "start the version that wrote it, or one that reads both formats; no file was changed" },
  );
}

const stampOf = (folder: string): string => join(folder, "state-format.json");

/** Every format that may be in `folder`. @throws BureauError when its stamp cannot be understood */
export function formatsIn(folder: string): readonly number[] {
  const path = stampOf(folder);
  const text = readIfPresent(path);
  if (text === undefined) return FIRST;
  try {
    return parseJson(StampSchema, text, path).formats;
  } catch (error) {
    throw new BureauError("unsupported", `Cannot tell in which format the files in "${folder}" are`, {
      cause: error,
      hint: `repair ${path}; for files in format 1 it contains {"formats":[1]}`,
    });
  }
}

export type StateFile = { readonly kind: StateKind; readonly path: string };

/**
 * Writes every file in `folder` in the format of this build. Skips a file that it cannot parse: its reader reports
 * that.
 * @throws BureauError, see {@link isTooNew}, before any change
 */
export function migrateStateFormat(folder: string, files: readonly StateFile[]): void {
  const present = formatsIn(folder);
  requireReadable(`the files in "${folder}"`, present);
  const found = files.flatMap((file) => readFields(file) ?? []);
  const others = found.filter(({ version }) => version !== WRITTEN_FORMAT);
  if (others.length === 0 && present.every((format) => format === WRITTEN_FORMAT)) return;
  const stamp = (formats: Iterable<number>): void =>
    writeDurably(stampOf(folder), JSON.stringify({ formats: [...new Set(formats)] }), 0o600);
  stamp([...present, ...others.map(({ version }) => version), WRITTEN_FORMAT]);
  for (const { kind, path, fields } of others) writeDurably(path, encodeState(kind, fields), 0o600);
  stamp([WRITTEN_FORMAT]);
}

function readFields({ kind, path }: StateFile) {
  if (!existsSync(path)) return undefined;
  const text = readIfPresent(path) ?? "";
  try {
    const { version } = parseJson(VersionSchema, text, path);
    return { kind, path, version, fields: decodeFields(kind, text, `"${path}"`) };
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/** One of the two versions of an upgrade. */
export type Version = { readonly path: string; readonly version: string; readonly state: StateFormats };

/**
 * Why a machine must not change from version `from` to `to`: `to` cannot read the files on disk, or `from` cannot read
 * what `to` writes, so that no rollback is possible. Undefined when it may. `present`: the formats on disk.
 */
export function faultBetween(from: Version, to: Version, present: readonly number[]): string | undefined {
  const here = [...new Set([...present, from.state.writes])];
  const unread = here.filter((format) => !to.state.reads.includes(format));
  const next = `version ${to.version}`;
  const current = `version ${from.version} ("${from.path}")`;
  const first = "upgrade first to a version between them, one that";
  const command = "bureau machine upgrade NAME --host-env PATH";
  if (unread.length > 0)
    return `${next} reads ${named(to.state.reads)} of this machine's files, and ${current}, which runs, has written ${named(unread)}; ${first} reads ${named([...unread, to.state.writes])}: ${command}`;
  if (!from.state.reads.includes(to.state.writes))
    return `${next} writes ${named([to.state.writes])} of this machine's files, and ${current}, which runs, reads ${named(from.state.reads)}: there would be no way back; ${first} reads ${named([...here, to.state.writes])} and still writes ${named([from.state.writes])}: ${command}`;
  return undefined;
}

function named(formats: readonly number[]): string {
  const sorted = [...new Set(formats)].sort((a, b) => a - b);
  return `${sorted.length === 1 ? "format" : "formats"} ${sorted.join(" and ")}`;
}
