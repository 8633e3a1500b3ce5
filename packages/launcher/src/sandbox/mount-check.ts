/**
 * A second look at mounts, after bubblewrap made them and before the program runs. Paths are checked by name first and
 * mounted by name later; who can write a folder on the way could swap it for a link in between. The kernel's mount
 * table tells what was really mounted, so a mount that slipped is found however it did.
 */
import { readFileSync } from "node:fs";
import { insidePaths } from "@bureau/kit/layout";
import { within } from "./mount-policy.ts";

/** One line of /proc/<pid>/mountinfo (proc(5)). */
export type MountEntry = {
  /** `major:minor` of the file system. */
  readonly device: string;
  /** The folder of the file system that is mounted. */
  readonly root: string;
  readonly point: string;
};

export function parseMountinfo(text: string): MountEntry[] {
  return text
    .split("\n")
    .map((line) => line.split(" "))
    .flatMap(([, , device, root, point]) =>
      device === undefined || root === undefined || point === undefined
        ? []
        : [
            {
              device,
              root: unescaped(root),
              point: unescaped(point),
            },
          ],
    );
}

/** Spaces and the like stand as three octal digits. */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** The mounts a process sees; empty when it is gone. */
export function mountsOf(pid: number | "self"): MountEntry[] {
  try {
    return parseMountinfo(readFileSync(`/proc/${pid}/mountinfo`, "utf8"));
  } catch {
    return [];
  }
}

/** True once bubblewrap has made its last mount and has let go of the host's root, which it keeps on /oldroot until then. */
export function isBuilt(initPid: number): boolean {
  const mounts = mountsOf(initPid);
  return (
    mounts.some(({ point }) => point === insidePaths.listen) &&
    !mounts.some(({ point, root }) => point === "/oldroot" && root === "/")
  );
}

/**
 * Pure. The first mount inside that is neither one of `sources` (resolved host paths) with what is mounted below it,
 * nor a file system made for the sandbox alone.
 */
export function findStrayMount(
  host: readonly MountEntry[],
  inside: readonly MountEntry[],
  sources: readonly string[],
): MountEntry | undefined {
  const hostDevices = new Set(host.map(({ device }) => device));
  const allowed = new Set(sources.flatMap((source) => originsOf(host, source)));
  return inside.find(
    ({ device, root, point }) =>
      hostDevices.has(device) &&
      // bubblewrap's own devices and terminal; the mount policy keeps everything else out of there.
      !(within(point, "/dev") || within(point, "/proc")) &&
      !allowed.has(`${device} ${root}`),
  );
}

/** What a recursive bind of `source` mounts: itself, and every mount below it. */
function originsOf(host: readonly MountEntry[], source: string): string[] {
  const holder = host
    .filter(({ point }) => within(source, point))
    .reduce<MountEntry | undefined>(
      (best, entry) => (best === undefined || entry.point.length >= best.point.length ? entry : best),
      undefined,
    );
  const below = host
    .filter(({ point }) => within(point, source))
    .map(({ device, root }) => `${device} ${root}`);
  if (holder === undefined) return below;
  const rest = source.slice(holder.point === "/" ? 0 : holder.point.length);
  const root = `${holder.root === "/" ? "" : holder.root}${rest}` || "/";
  return [`${holder.device} ${root}`, ...below];
}
