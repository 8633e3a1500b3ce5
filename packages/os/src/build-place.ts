/**
 * Checks the place of a build, so that the executed files are the checked ones: only root and the user who runs the
 * build may change it, or any folder and link in its path. Sandboxes run as that same user, so a build or its path must
 * not be in a folder that sandboxes write to.
 */
import type { Stats } from "node:fs";
import { dirname } from "node:path";
import { errnoOf, messageOf } from "@bureau/kit/errors";
import { isInStore } from "@bureau/kit/nix-store-path";
import { faultOfContent, faultOfSteps, stepsTo } from "./build-paths.ts";
import { type Layout, systemHost, systemLayout } from "./layout.ts";
import { within } from "./mounts.ts";
import { realPath } from "./own-build.ts";

type Folders = Pick<Layout, "runDir" | "workspaceRoot" | "cacheRoot" | "stateDir">;

/** Why an installation with these folders must not run the build at `path`; undefined when it may. */
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
    return faultOfSteps(steps, looseness) ?? faultOfContent(real, looseness);
  } catch (error) {
    return errnoOf(error) === "ENOENT" ? `it lacks files: ${messageOf(error)}` : messageOf(error);
  }
}

/** The Nix store has its own rules: store paths never change, for any owner. */
function looseness(path: string, stat: Stats): string | undefined {
  const uid = process.getuid?.() ?? 0;
  if (stat.uid !== 0 && stat.uid !== uid && !isInStore(path) && !isStoreItself(path))
    return `"${path}" belongs to user ${stat.uid}, who may change it`;
  if (stat.isSymbolicLink()) return undefined;
  const isSticky = stat.isDirectory() && (stat.mode & 0o1000) !== 0;
  if (isSticky || (stat.mode & 0o022) === 0) return undefined;
  if ((stat.mode & 0o002) !== 0) return `every user may change "${path}" (chmod o-w)`;
  // A user-private group has only that user as member; root's group has only root.
  return stat.gid === 0 || stat.gid === process.getgid?.()
    ? undefined
    : `group ${stat.gid} may change "${path}" (chmod g-w)`;
}

const isStoreItself = (path: string): boolean => path === "/nix" || path === "/nix/store";
