/**
 * Checks the place of a build, so that the executed files are the checked ones: only root and the user who runs the build
 * may change it, or any folder and link in its path. Sandboxes run as that same user, so a build or its path must not be in
 * a folder that sandboxes write to.
 */
import { lstatSync, readdirSync, readlinkSync, type Stats, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { errnoOf, messageOf } from "@bureau/kit/errors";
import { isInStore } from "@bureau/kit/nix-store-path";
import { type Layout, systemHost, systemLayout } from "./layout.ts";
import { within } from "./mounts.ts";
import { realPath } from "./own-build.ts";

/** Links on one way; the kernel has the same limit (path_resolution(7)). */
const LINKS_MAX = 40;

type Folders = Pick<Layout, "runDir" | "workspaceRoot" | "cacheRoot" | "stateDir">;

/** Why the build at `path` must not be run by an installation with these folders; undefined when it may. */
export function faultOfPlace(path: string, layout: Folders): string | undefined {
  try {
    const steps = stepsTo(path);
    const real = steps.at(-1) ?? path;
    const forbidden = [layout.workspaceRoot, layout.cacheRoot, layout.runDir].map((at) => realPath(at) ?? at);
    for (const step of steps) {
      const inside = forbidden.find((folder) => within(step, folder));
      if (inside !== undefined) return `it lies in, or leads through, "${inside}", where sandboxes write`;
    }
    if (
      layout.stateDir === systemLayout.stateDir &&
      !isInStore(real) &&
      !within(dirname(real), systemHost.buildsDir)
    )
      return `it is neither in ${systemHost.buildsDir} nor in the Nix store`;
    return looseStep(steps) ?? looseFile(real);
  } catch (error) {
    return errnoOf(error) === "ENOENT" ? `it lacks files: ${messageOf(error)}` : messageOf(error);
  }
}

/** Every folder and link that decides where `path` leads, each by a path without links before its last part. */
function stepsTo(path: string): string[] {
  const steps: string[] = [];
  let links = 0;
  let at = "/";
  const left = resolve(path).split("/").filter(Boolean);
  for (let part = left.shift(); part !== undefined; part = left.shift()) {
    if (part === "..") {
      at = dirname(at);
      continue;
    }
    const next = join(at, part);
    steps.push(next);
    if (!lstatSync(next).isSymbolicLink()) {
      at = next;
      continue;
    }
    if (++links > LINKS_MAX) throw new Error(`there are too many links on the way to "${path}"`);
    const target = readlinkSync(next);
    left.unshift(...target.split("/").filter((word) => word !== "" && word !== "."));
    if (target.startsWith("/")) at = "/";
  }
  return [...steps, at];
}

const looseStep = (steps: readonly string[]): string | undefined => {
  for (const step of new Set(["/", ...steps])) {
    const loose = looseness(step, lstatSync(step));
    if (loose !== undefined) return loose;
  }
  return undefined;
};

/** What a build consists of, in folders no deeper than its own; parts may be links into the Nix store. */
function looseFile(build: string): string | undefined {
  const folders = ["bin", "lib", "runtime"].map((name) => join(build, name));
  const programs = readdirSync(join(build, "lib")).map((name) => join(build, "lib", name));
  const inside = [...folders, ...programs].flatMap((folder) => [
    folder,
    ...readdirSync(folder).map((name) => join(folder, name)),
  ]);
  for (const path of [join(build, "build.json"), ...inside]) {
    // For a link, its target and each folder in the path count.
    const loose = lstatSync(path).isSymbolicLink()
      ? looseStep(stepsTo(path))
      : looseness(path, statSync(path));
    if (loose !== undefined) return loose;
  }
  return undefined;
}

/** The Nix store's own rules hold in it: store paths never change, for any owner. */
function looseness(path: string, stat: Stats): string | undefined {
  const uid = process.getuid?.() ?? 0;
  if (stat.uid !== 0 && stat.uid !== uid && !isInStore(path) && !isStoreItself(path))
    return `"${path}" belongs to user ${stat.uid}, who may change it`;
  if (stat.isSymbolicLink()) return undefined;
  const isSticky = stat.isDirectory() && (stat.mode & 0o1000) !== 0;
  if (isSticky || (stat.mode & 0o022) === 0) return undefined;
  if ((stat.mode & 0o002) !== 0) return `everybody may change "${path}" (chmod o-w)`;
  // A user-private group has only that user as member; root's group has only root.
  return stat.gid === 0 || stat.gid === process.getgid?.()
    ? undefined
    : `group ${stat.gid} may change "${path}" (chmod g-w)`;
}

const isStoreItself = (path: string): boolean => path === "/nix" || path === "/nix/store";
