/**
 * Every path that decides which files of a build are executed: the folders and links that lead to it, and its parts.
 * The caller judges each path, because who may change it differs: an installation trusts root and its own user, a
 * doctor that becomes root trusts all but the system user and the operators.
 */
import { lstatSync, readdirSync, readlinkSync, type Stats, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** The reason not to use the path; undefined when there is none. `stat` does not follow a link. */
export type Judge = (path: string, stat: Stats) => string | undefined;

/** Links in one path; the kernel has the same limit (path_resolution(7)). */
const LINKS_MAX = 40;

/** Every folder and link that decides where `path` leads, each by a path without links before its last part. */
export function stepsTo(path: string): string[] {
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

/** The first fault of a step, the root folder included. */
export function faultOfSteps(steps: readonly string[], judge: Judge): string | undefined {
  for (const step of new Set(["/", ...steps])) {
    const fault = judge(step, lstatSync(step));
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** The first fault in the parts of a build. Parts may be links into the Nix store. */
export function faultOfContent(build: string, judge: Judge): string | undefined {
  const folders = ["bin", "lib", "runtime"].map((name) => join(build, name));
  const programs = readdirSync(join(build, "lib")).map((name) => join(build, "lib", name));
  const inside = [...folders, ...programs].flatMap((folder) => [
    folder,
    ...readdirSync(folder).map((name) => join(folder, name)),
  ]);
  for (const path of [join(build, "build.json"), ...inside]) {
    // For a link, its target and each folder in the path count.
    const fault = lstatSync(path).isSymbolicLink()
      ? faultOfSteps(stepsTo(path), judge)
      : judge(path, statSync(path));
    if (fault !== undefined) return fault;
  }
  return undefined;
}
