/**
 * The Nix store of this machine, used without privilege: Nix's daemon fetches what is missing, and keeps what we name.
 *
 * A path is kept by a link to it that Nix knows of (an indirect root), one a path, in a folder beside the boot link. It
 * needs no permission to make one, and once the link is gone the path is not kept any more. What Nix remembers of a
 * link that is gone, it forgets when it next collects garbage.
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

/** Fetching a whole build from a cache. */
const FETCH_MS_MAX = 300_000;
/** A path that is there is only looked up. */
const KEEP_MS_MAX = 30_000;
const ASK_MS_MAX = 10_000;
/** Where installers other than a distribution's put it, which services do not have on PATH. */
const DEFAULT_PROFILE = "/nix/var/nix/profiles/default/bin/nix-store";

const nixProgram = (): string | undefined =>
  Bun.which("nix-store") ?? (existsSync(DEFAULT_PROFILE) ? DEFAULT_PROFILE : undefined);

export type FetchOptions = {
  readonly bootLink: string;
  /** The fleet's own cache, to say exactly what is missing there. */
  readonly cache: FleetCache | undefined;
  readonly signal: AbortSignal;
};

/** Makes a store path be here, and keeps it. @throws BureauError with what Nix said; then nothing was changed */
export async function fetchStorePath(path: string, options: FetchOptions): Promise<void> {
  const { bootLink, cache, signal } = options;
  const isHere = existsSync(path);
  const program = nixProgram();
  if (program === undefined) {
    // Without Nix nothing is ever collected.
    if (isHere) return;
    throw new BureauError("unavailable", `There is no Nix here to fetch "${path}" with`);
  }
  const answer = isHere ? undefined : await askCache(path, cache, signal);
  // Nix would remember for an hour that it is not there, and not look again once it is there.
  if (answer?.kind === "lacks")
    throw new BureauError("not-found", `Cannot fetch "${path}": ${answer.reason}`);
  const outcome = await addRoot(program, path, bootLink, isHere ? KEEP_MS_MAX : FETCH_MS_MAX, signal);
  if (outcome.code === 0 && existsSync(path)) return;
  const away = answer?.kind === "away" ? `${answer.reason}; ` : "";
  const act = isHere ? "keep" : "fetch";
  throw new BureauError("unavailable", `Nix cannot ${act} "${path}": ${away}${complaintsOf(outcome.said)}`);
}

/** What Nix complains of, without what it was about to do. */
function complaintsOf(said: string): string {
  const complaints = said.split("\n").filter((line) => /^(?:error|warning):/u.test(line));
  return complaints.length === 0 ? said : complaints.join("; ");
}

type CacheAnswer = { readonly kind: "lacks" | "away"; readonly reason: string };

/** Asks the fleet's cache itself. Undefined: it has the path, or cannot be asked so. */
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
    // What may not be listed is forbidden rather than missing (S3).
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
  /** It is known that nothing else is needed. */
  readonly isComplete: boolean;
  readonly log: Log;
};

/** Lets exactly the paths that are wanted be kept; what cannot be is logged, and tried again the next time. */
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

/** True when {@link keepStorePaths} has something to look after. */
export const hasStorePaths = (bootLink: string, wanted: readonly string[]): boolean =>
  wanted.some(isStorePath) || existsSync(versionRootsDir(bootLink));
