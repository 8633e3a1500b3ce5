/**
 * A build: one whole set of Bureau's programs, in a folder of its own or in the Nix store, where its parts may be
 * links.
 *
 * ```
 * bin/<program>            what units and people start
 * lib/<program>/main.js    the program; beside it its bytecode, and what it loads only when needed
 * runtime/bun              the runtime that executes it
 * build.json               version, runtime and its arguments, the SHA-256 of every program, and the formats of a
 *                          machine's files that they know
 * ```
 *
 * Two builds are the same when their content is the same, independent of their paths.
 */
import { createReadStream, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { BureauError, errnoOf, messageOf } from "@bureau/kit/errors";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { sha256Hex } from "./digest.ts";
import { replaceWith } from "./durable-file.ts";
import { ownBuild, realPath } from "./own-build.ts";
import { firstFormats, type StateFormats } from "./state-format.ts";

/** Part of paths and of names of commands. */
const programName = v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]*$/u, "not the name of a program"));

const ManifestSchema = v.object({
  version: v.string(),
  runtime: v.string(),
  /** Architecture, as in `process.arch` → SHA-256 of the runtime for it. Older builds have none. */
  runtime_sha256: v.optional(v.record(v.string(), v.string()), {}),
  /** Absent in builds that are older than these arguments: they expect their own path in place of the first. */
  runtime_arguments: v.optional(v.array(v.string()), []),
  programs: v.record(programName, v.object({ sha256: v.string(), bytes: v.optional(v.number()) })),
  takes_over: v.optional(v.array(v.string()), []),
  state: v.optional(v.object({ reads: v.array(v.number()), writes: v.number() }), firstFormats),
});

export type Build = {
  /** The folder; its parts may be links to elsewhere. */
  readonly path: string;
  /** See {@link idOf}. */
  readonly id: string;
  readonly version: string;
  readonly runtime: string;
  /** Arguments of its runtime, before the program. */
  readonly runtimeArguments: readonly string[];
  /** SHA-256 of the runtime, when the manifest has one for this architecture. */
  readonly runtimeSha256: string | undefined;
  /** See {@link takesOver}. */
  readonly takesOver: readonly string[];
  /** Program → SHA-256. */
  readonly programs: Readonly<Record<string, string>>;
  /** Formats of a machine's files that they read, and the one they write. */
  readonly state: StateFormats;
};

/**
 * What its programs take over at exec besides one listening socket: several named sockets, and open connections of
 * streams. Older builds take over neither.
 */
export const takesOver: readonly TakenOver[] = ["sockets", "streams"];
export type TakenOver = "sockets" | "streams";

const ID_CHARS = 12;

/** A build's id, from the text of its manifest, which lists the content of every program: 12 hex digits. */
export const idOf = (manifest: string): string => sha256Hex(manifest).slice(0, ID_CHARS);

/** @throws BureauError `not-found`, or InputError when the manifest cannot be read */
export function readBuild(path: string): Build {
  const file = join(path, "build.json");
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new BureauError("not-found", `There is no build of Bureau at "${path}": ${messageOf(error)}`);
  }
  const manifest = parseJson(ManifestSchema, text, file);
  const { version, runtime, programs, state } = manifest;
  return {
    path,
    id: idOf(text),
    version,
    runtime,
    runtimeArguments: manifest.runtime_arguments,
    takesOver: manifest.takes_over,
    state,
    runtimeSha256: manifest.runtime_sha256[process.arch],
    programs: Object.fromEntries(Object.entries(programs).map(([name, { sha256 }]) => [name, sha256])),
  };
}

export const runtimeOf = (path: string): string => join(path, "runtime", "bun");
const mainOf = (path: string, program: string): string => join(path, "lib", program, "main.js");

/** Arguments with which a build's runtime runs one of its programs. */
export const argumentsFor = (
  { path, runtimeArguments }: Pick<Build, "path" | "runtimeArguments">,
  program: string,
): readonly string[] => [...runtimeArguments, mainOf(path, program)];

/** Identifies one version of a program: its content and its runtime. Undefined when there is no such program. */
export function contentOf(build: Pick<Build, "runtime" | "programs">, program: string): string | undefined {
  const sha256 = build.programs[program];
  return sha256 === undefined ? undefined : `${sha256} on ${build.runtime}`;
}

/** {@link contentOf} for the whole build. */
export const contentOfAll = ({ runtime, programs }: Pick<Build, "runtime" | "programs">): string =>
  sha256Hex(JSON.stringify([runtime, Object.entries(programs).sort(([a], [b]) => (a < b ? -1 : 1))]));

/** The SHA-256 of a program in `folder`, as in a manifest: over names, sizes and contents of its files, in order. */
export function digestOfProgram(folder: string): string {
  const hash = new Bun.CryptoHasher("sha256");
  for (const file of readdirSync(folder).sort()) {
    const content = readFileSync(join(folder, file));
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return hash.digest("hex");
}

/** The SHA-256 of a file of any size. Yields to the event loop: a runtime takes half a second, more on a busy host. */
export async function digestOfFile(path: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES }))
    hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

const CHUNK_BYTES = 1 << 20;

/** {@link faultOf}, and a check of the runtime's SHA-256. Call it before the runtime is executed. */
export async function wholeFaultOf(
  environment: Build,
  only?: readonly string[],
): Promise<string | undefined> {
  const { path, runtimeSha256 } = environment;
  const fault = faultOf(environment, only);
  if (fault !== undefined || runtimeSha256 === undefined) return fault;
  const sha256 = await digestOfFile(runtimeOf(path)).catch(messageOf);
  return sha256 === runtimeSha256 ? undefined : "its runtime does not match its manifest";
}

/** A missing or altered file; undefined when complete. `only`: checks just these programs. */
export function faultOf(environment: Build, only?: readonly string[]): string | undefined {
  const { path, programs } = environment;
  try {
    if ((statSync(runtimeOf(path)).mode & 0o111) === 0) return "its runtime cannot be executed";
    for (const [name, sha256] of Object.entries(programs)) {
      if (only?.includes(name) === false) continue;
      if ((statSync(join(path, "bin", name)).mode & 0o111) === 0) return `bin/${name} cannot be executed`;
      if (digestOfProgram(join(path, "lib", name)) !== sha256)
        return `lib/${name} does not match its manifest`;
    }
    return undefined;
  } catch (error) {
    return errnoOf(error) === "ENOENT" ? `it lacks files: ${messageOf(error)}` : messageOf(error);
  }
}

/** The build that this program runs from, by its real path. Undefined when it runs from sources. */
export function readOwnBuild(program: string): Build | undefined {
  const path = realPath(ownBuild());
  if (path === undefined || realPath(mainOf(path, program)) !== realPath(Bun.main)) return undefined;
  try {
    return readBuild(path);
  } catch {
    return undefined;
  }
}

/** True when the link at `link` leads to `target`. */
export function leadsTo(link: string, target: string): boolean {
  try {
    return readlinkSync(link) === target;
  } catch {
    return false;
  }
}

/** Points the link at `link` to `target`, durably. The link exists at every moment. */
export function moveBootLink(link: string, target: string): void {
  try {
    replaceWith(link, (temporary) => symlinkSync(target, temporary));
  } catch (error) {
    throw new BureauError("failed", `Cannot point the link "${link}" to "${target}": ${messageOf(error)}`);
  }
}
