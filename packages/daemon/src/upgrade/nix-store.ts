/**
 * The Nix store of this machine, used without privilege: Nix's daemon fetches missing paths, and keeps those we link
 * to.
 *
 * Nix keeps a path while a registered link to it (an indirect root) exists: one link a path, in a folder beside the
 * boot link. Creating one needs no permission, and removing it releases the path. Nix drops its entry for a removed
 * link at the next garbage collection.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { isStorePath, nixStore } from "@bureau/kit/nix-store-path";
import { viaNetwork } from "@bureau/os/egress";
import { versionRootsDir } from "@bureau/os/layout";
import type { FleetCache } from "@bureau/schema/events";
import { runBriefly } from "./run-briefly.ts";

/** Time to fetch a whole build from a cache. */
const FETCH_MS_MAX = 300_000;
/** Time to look up a path that is present. */
const KEEP_MS_MAX = 30_000;
const ASK_MS_MAX = 10_000;
/** The folder that Nix's own installers use, which services do not have on PATH. */
const DEFAULT_PROFILE = "/nix/var/nix/profiles/default/bin/nix-store";

const nixProgram = (): string | undefined =>
  Bun.which("nix-store") ?? (existsSync(DEFAULT_PROFILE) ? DEFAULT_PROFILE : undefined);

export type FetchOptions = {
  readonly bootLink: string;
  /** The fleet's own cache, to report exactly which path it lacks. */
  readonly cache: FleetCache | undefined;
  readonly signal: AbortSignal;
};

/**
 * Fetches a store path if it is missing, and keeps it. @throws BureauError with Nix's error; then nothing was changed
 */
export async function fetchStorePath(path: string, options: FetchOptions): Promise<void> {
  const { bootLink, cache, signal } = options;
  const isHere = existsSync(path);
  const program = nixProgram();
  if (program === undefined) {
    // Without Nix nothing is ever collected.
    if (isHere) return;
    throw new BureauError("unavailable", `Cannot fetch "${path}": Nix is not installed on this host`);
  }
  const answer = isHere ? undefined : await askCache(path, cache, signal);
  // Nix caches for an hour that a path is missing, and would not look again.
  if (answer?.kind === "lacks")
    throw new BureauError("not-found", `Cannot fetch "${path}": ${answer.reason}`);
  const outcome = await addRoot(program, path, bootLink, isHere ? KEEP_MS_MAX : FETCH_MS_MAX, signal);
  if (outcome.code === 0 && existsSync(path)) return;
  const away = answer?.kind === "away" ? `${answer.reason}; ` : "";
  const act = isHere ? "keep" : "fetch";
  throw new BureauError("unavailable", `Nix cannot ${act} "${path}": ${away}${complaintsOf(outcome.said)}`);
}

/** The error of Nix, without its progress messages. */
function complaintsOf(said: string): string {
  const complaints = said.split("\n").filter((line) => /^(?:error|warning):/u.test(line));
  return complaints.length === 0 ? said : complaints.join("; ");
}

type CacheAnswer = { readonly kind: "lacks" | "away"; readonly reason: string };

/** Asks the fleet's cache directly. Undefined when it has the path, or cannot be asked this way. */
async function askCache(
  path: string,
  cache: FleetCache | undefined,
  signal: AbortSignal,
): Promise<CacheAnswer | undefined> {
  if (cache === undefined || !/^https?:/.test(cache.url)) return undefined;
  const url = cache.url.replace(/\/+$/, "");
  const [hash = ""] = basename(path).split("-");
  try {
    const answer = await fetch(`${url}/${hash}.narinfo`, {
      ...viaNetwork(url),
      signal: AbortSignal.any([signal, AbortSignal.timeout(ASK_MS_MAX)]),
    });
    await answer.body?.cancel();
    if (answer.ok) return undefined;
    // S3 answers "forbidden" for a missing object when listing is not allowed.
    return answer.status === 404 || answer.status === 403
      ? { kind: "lacks", reason: `the fleet's cache ${url} does not have it` }
      : { kind: "away", reason: `the fleet's cache ${url} answers with ${answer.status}` };
  } catch (error) {
    return { kind: "away", reason: `the fleet's cache ${url} does not answer (${messageOf(error)})` };
  }
}

const addRoot = (
  program: string,
  path: string,
  bootLink: string,
  timeoutMs: number,
  signal?: AbortSignal,
) => {
  const folder = versionRootsDir(bootLink);
  mkdirSync(folder, { recursive: true });
  const command = [program, "--realise", path, "--add-root", join(folder, basename(path))];
  return runBriefly(command, timeoutMs, signal);
};

export type KeepOptions = {
  readonly bootLink: string;
  /** Paths that are needed; those outside the store are passed over. */
  readonly wanted: readonly string[];
  /** No other path is needed, for certain. */
  readonly isComplete: boolean;
  readonly log: Log;
};

/** Keeps exactly the wanted paths. Logs a failure, and tries again the next time. */
export async function keepStorePaths({ bootLink, wanted, isComplete, log }: KeepOptions): Promise<void> {
  const folder = versionRootsDir(bootLink);
  const names = new Set(wanted.filter(isStorePath).map((path) => basename(path)));
  const known = existsSync(folder) ? readdirSync(folder) : [];
  const program = nixProgram();
  for (const name of names) {
    if (known.includes(name) || program === undefined) continue;
    const path = join(nixStore, name);
    const { code, said } = await addRoot(program, path, bootLink, KEEP_MS_MAX);
    if (code !== 0) log.warn("nix.root-failed", "Nix may collect a build that is needed", { path, said });
  }
  if (!isComplete) return;
  for (const name of known)
    if (!names.has(name) && lstatSync(join(folder, name)).isSymbolicLink()) rmSync(join(folder, name));
}

/** True when {@link keepStorePaths} has any paths to keep. */
export const hasStorePaths = (bootLink: string, wanted: readonly string[]): boolean =>
  wanted.some(isStorePath) || existsSync(versionRootsDir(bootLink));
