/** The preflight of an upgrade: the new build is on this host, is complete, and runs on this machine. */
import { existsSync, realpathSync } from "node:fs";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { isStorePath } from "@bureau/kit/nix-store-path";
import { argumentsFor, type Build, readBuild, runtimeOf, wholeFaultOf } from "@bureau/os/build";
import { faultOfPlace } from "@bureau/os/build-place";
import type { Layout } from "@bureau/os/layout";
import { realPath } from "@bureau/os/own-build";
import { faultBetween, stateFormats } from "@bureau/os/state-format";
import { InputError } from "@bureau/schema/parse";
import { type FetchOptions, fetchStorePath } from "./nix-store.ts";
import { runBriefly } from "./run-briefly.ts";

/** Time for a program to print its version. */
const VERSION_MS_MAX = 15_000;
/** Time to write all cached data to a slow disk. */
const WRITE_MS_MAX = 120_000;
/** Programs that a machine needs to work. */
const needed = ["bureau-daemon", "bureau-launcher", "bureau-proxy"];

/**
 * Ensures that the build is on this host: fetches a missing one in the Nix store, and keeps its store paths. Returns
 * its real path, as every program knows its own. @throws BureauError; then nothing was changed
 */
export async function prefetch(path: string, options: FetchOptions): Promise<string> {
  if (!isStorePath(path) && !existsSync(path))
    throw new BureauError(
      "not-found",
      `"${path}" is not on this machine, and is no Nix store path that could be fetched`,
    );
  const real = existsSync(path) ? realpathSync(path) : path;
  if (isStorePath(real)) await fetchStorePath(real, options);
  return real;
}

export type CheckContext = {
  /** The path as requested: folders and links in the path are checked, too. */
  readonly asked: string;
  /** The build to replace. */
  readonly running: Build;
  /** Formats that the machine's files may have. */
  readonly formats: readonly number[];
  readonly layout: Layout;
};

/** @throws BureauError `invalid-input` that names its fault */
export async function checkEnvironment(
  path: string,
  { asked, running, formats, layout }: CheckContext,
): Promise<Build> {
  const bad = (reason: string): BureauError =>
    new BureauError("invalid-input", `"${asked}" cannot be used: ${reason}`);
  // First of all: never read a path that others may change.
  const place = faultOfPlace(asked, layout);
  if (place !== undefined) throw bad(place);
  if (realPath(asked) !== path) throw bad(`it resolves to another path than "${path}"`);
  let found: Build;
  try {
    found = readBuild(path);
  } catch (error) {
    if (error instanceof InputError || error instanceof BureauError) throw bad(messageOf(error));
    throw error;
  }
  const missing = needed.find((name) => found.programs[name] === undefined);
  if (missing !== undefined) throw bad(`it has no ${missing}`);
  const fault = await wholeFaultOf(found);
  if (fault !== undefined) throw bad(fault);
  const between = faultBetween({ ...running, state: stateFormats }, found, formats);
  if (between !== undefined) throw bad(between);
  const runtime = await runBriefly([runtimeOf(path), ...found.runtimeArguments, "--version"], VERSION_MS_MAX);
  if (runtime.code !== 0) throw bad(`its runtime does not run here: ${runtime.said}`);
  for (const name of ["bureau-daemon", "bureau-launcher"]) {
    const program = await runBriefly(
      [runtimeOf(path), ...argumentsFor(found, name), "--version"],
      VERSION_MS_MAX,
    );
    if (program.code !== 0) throw bad(`its ${name} does not run here: ${program.said}`);
  }
  // The build must survive a power cut. Neither a copy nor Nix syncs it to the disk.
  const written = await runBriefly(["sync", "--file-system", path], WRITE_MS_MAX);
  if (written.code !== 0) throw bad(`it cannot be written to the disk for good: ${written.said}`);
  return found;
}
