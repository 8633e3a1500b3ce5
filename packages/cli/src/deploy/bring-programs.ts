/**
 * Sends the build to a host without Nix: one archive, streamed over ssh into a folder that only the logged-in user may
 * enter, since root will run its contents. After an interruption the next run resumes: it does not send bytes again that
 * arrived, nor a complete build. A build is complete when the SHA-256 of every file matches.
 *
 * ```
 * <staging>/bureau-deploy-<uid>-<id>/<sha>.part     the part of the archive that has arrived
 *                                   /unpacking/     the build while it is unpacked
 *                                   /<id>/          the complete build: bin/, lib/, runtime/, build.json
 * ```
 */
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { readBuild } from "@bureau/os/build";
import { parse } from "@bureau/schema/parse";
import * as v from "valibot";
import { type HostShell, quote, runOrThrow } from "../remote/host-shell.ts";
import {
  type BuildArchive,
  type BuildFile,
  buildFiles,
  type Codec,
  checksums,
  writeArchive,
} from "./build-archive.ts";
import type { HostFacts } from "./host-check.ts";

export type Brought = {
  /** The build's folder on the host. */
  readonly path: string;
  /** Bytes sent; 0 when the build was already there. */
  readonly sentBytes: number;
};

/** Hashing and unpacking a hundred megabytes on a slow disk. */
const WORK_MS_MAX = 300_000;
/** The whole transfer; a dead connection is noticed long before. */
const SEND_MS_MAX = 3_600_000;
const FOREIGN = 8;
const DAMAGED = 9;

/** The folder on the host, and the ID of the build in it: the scripts' first arguments. */
type Place = readonly [folder: string, id: string];

const shellStart = `
set -eu
umask 077
export LC_ALL=C
dir=$1 build=$1/$2
`;

/** `$1` the folder, `$2` the build. Prints `whole`, or how many bytes of which archives are there. */
const lookScript = (sums: string): string => `${shellStart}
[ -e "$dir" ] || [ -L "$dir" ] || mkdir -m 700 "$dir"
if [ -L "$dir" ] || [ ! -d "$dir" ] || [ ! -O "$dir" ]; then exit ${FOREIGN}; fi
chmod 700 "$dir"
cat >"$dir/sums" <<'SUMS'
${sums}SUMS
if [ -d "$build" ] && (cd "$build" && sha256sum -c --status ../sums 2>/dev/null); then echo whole; exit 0; fi
rm -rf "$build" "$dir/unpacking"
for part in "$dir"/*.part; do
  if [ -f "$part" ]; then echo "part $(wc -c <"$part" | tr -d ' ') $(basename "$part")"; fi
done
`;

/** `$3` the archive's name, `$4` its SHA-256, `$5` what unpacks it. */
const unpackScript = `${shellStart}
part=$dir/$3
if ! printf '%s  %s\\n' "$4" "$part" | sha256sum -c --status; then rm -f "$part"; exit ${DAMAGED}; fi
rm -rf "$dir/unpacking"
mkdir -m 755 "$dir/unpacking"
"$5" -dc <"$part" | tar -xpf - -C "$dir/unpacking"
(cd "$dir/unpacking" && sha256sum -c --quiet ../sums)
mv "$dir/unpacking" "$build"
rm -f "$dir"/*.part
`;

export type BringOptions = {
  readonly host: HostShell;
  readonly facts: Pick<HostFacts, "ARCH" | "STAGING" | "UID" | "has">;
  /** The build's folder here. */
  readonly build: string;
  readonly onProgress?: (text: string) => void;
};

/** @throws BureauError that names the failed part and the next command */
export async function bringPrograms(options: BringOptions): Promise<Brought> {
  const { host, facts, build } = options;
  const id = readBuild(build).id;
  const files = buildFiles(build, facts.ARCH);
  // The name contains the user ID, so that each user has a folder.
  const folder = `${facts.STAGING}/bureau-deploy-${facts.UID}-${id}`;
  const place: Place = [folder, id];
  const path = `${folder}/${id}`;
  options.onProgress?.("checking what is there");
  const present = await lookAt(host, place, await checksums(files));
  if (present === "whole") return { path, sentBytes: 0 };
  const sentBytes = await transfer(options, files, place, present);
  await proveItRuns(host, path);
  return { path, sentBytes };
}

/** Removes the files that {@link bringPrograms} left in this deploy and earlier ones, of any build. */
export async function removeStaging(host: HostShell, staging: string): Promise<void> {
  const script =
    'for dir in "$0"/bureau-deploy-*; do [ -L "$dir" ] || [ ! -O "$dir" ] || rm -rf "$dir"; done';
  await runOrThrow(host, `remove "${staging}/bureau-deploy-*"`, ["sh", "-c", script, staging], {
    timeoutMs: WORK_MS_MAX,
  });
}

/** Sends and unpacks. A damaged archive is sent once more, from its beginning. */
async function transfer(
  { host, facts, onProgress }: BringOptions,
  files: readonly BuildFile[],
  place: Place,
  present: ReadonlyMap<string, number>,
): Promise<number> {
  const codec: Codec = facts.has.includes("zstd") ? "zstd" : "gzip";
  const scratch = mkdtempSync(join(tmpdir(), "bureau-archive-"));
  try {
    onProgress?.("packing");
    const archive = await writeArchive(files, codec, join(scratch, "archive"));
    const name = `${archive.sha256.slice(0, 16)}.part`;
    const there = present.get(name) ?? 0;
    let from = there <= archive.bytes ? there : 0;
    let sentBytes = 0;
    for (const last of [false, true]) {
      sentBytes += await send(host, archive, {
        path: `${place[0]}/${name}`,
        from,
        onProgress,
      });
      onProgress?.("unpacking");
      if (await unpack(host, [...place, name, archive.sha256, codec], last)) break;
      from = 0;
    }
    return sentBytes;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const PartSchema = v.tuple([
  v.literal("part"),
  v.pipe(v.string(), v.regex(/^\d+$/u), v.transform(Number)),
  v.string(),
]);

async function lookAt(
  host: HostShell,
  place: Place,
  sums: string,
): Promise<"whole" | ReadonlyMap<string, number>> {
  const ran = await host.run(["sh", "-s", "--", ...place], {
    stdin: lookScript(sums),
    timeoutMs: WORK_MS_MAX,
  });
  const [folder] = place;
  if (ran.code === FOREIGN)
    throw new BureauError("conflict", `"${folder}" on ${host.name} belongs to another user`, {
      hint: `check its owner (ls -ld ${folder}), remove it there, and deploy again`,
    });
  if (ran.code !== 0)
    throw new BureauError(
      "failed",
      `Cannot use "${folder}" on ${host.name}: exit code ${ran.code}${quote(ran)}`,
    );
  const lines = ran.stdout.split("\n").filter((line) => line === "whole" || line.startsWith("part "));
  if (lines.includes("whole")) return "whole";
  const parts = lines.map((line) => parse(PartSchema, line.split(" "), `answer of ${host.name}`));
  return new Map(parts.map(([, bytes, name]) => [name, bytes]));
}

async function send(
  host: HostShell,
  archive: BuildArchive,
  to: {
    readonly path: string;
    readonly from: number;
    readonly onProgress: ((text: string) => void) | undefined;
  },
): Promise<number> {
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
  async function* input(): AsyncGenerator<Uint8Array> {
    let done = to.from;
    for await (const chunk of createReadStream(archive.path, { start: to.from })) {
      yield chunk as Uint8Array;
      done += (chunk as Uint8Array).length;
      const percent = Math.floor((done / archive.bytes) * 100);
      to.onProgress?.(`${megabytes(done)} of ${megabytes(archive.bytes)} MB (${percent} %)`);
    }
  }
  if (to.from === archive.bytes) return 0;
  const write = to.from === 0 ? 'exec cat >"$0"' : 'exec cat >>"$0"';
  await runOrThrow(host, "write the programs", ["sh", "-c", `umask 077; ${write}`, to.path], {
    stdin: input(),
    timeoutMs: SEND_MS_MAX,
    hint: "free some space there if the disk is full; deploying again resumes the transfer",
  });
  return archive.bytes - to.from;
}

/** False when the archive is damaged, and removed. */
async function unpack(host: HostShell, args: readonly string[], last: boolean): Promise<boolean> {
  const ran = await host.run(["sh", "-s", "--", ...args], { stdin: unpackScript, timeoutMs: WORK_MS_MAX });
  if (ran.code === 0) return true;
  if (ran.code === DAMAGED && !last) return false;
  throw new BureauError(
    "failed",
    ran.code === DAMAGED
      ? `The programs arrived damaged on ${host.name}, twice`
      : `Cannot unpack the programs on ${host.name}: exit code ${ran.code}${quote(ran)}`,
    { hint: "check that its disk is neither full nor failing, and deploy again" },
  );
}

/** Finds out now, and not at boot, that the processor lacks instructions of the runtime, or that the kernel forbids it. */
async function proveItRuns(host: HostShell, path: string): Promise<void> {
  await runOrThrow(host, "run Bureau's programs", [`${path}/bin/bureau`, "version"], {
    timeoutMs: WORK_MS_MAX,
    hint: "an illegal instruction means that the processor is older than x86-64-v2 (SSE 4.2), or that the virtual machine hides it: configure the CPU model of the host",
  });
}
