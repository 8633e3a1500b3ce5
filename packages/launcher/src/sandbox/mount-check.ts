/**
 * Checks mounts again, after bubblewrap made them and before the program runs. The launcher checks a path and bubblewrap
 * mounts it later: in between, another process could replace a folder of the path by a link. The kernel's mount table has
 * the path that was really mounted.
 */
import { type MountEntry, mountinfoOf, originsOf, parseMountinfo, within } from "@bureau/os/mounts";
import { insidePaths } from "@bureau/schema/inside-paths";

/** True after bubblewrap made its last mount and unmounted the host's root, which is on /oldroot until then. */
export function isBuilt(initPid: number): boolean {
  const text = mountinfoOf(initPid);
  // Until then bubblewrap has the mount below /newroot. The launcher looks often, and parsing costs more than reading.
  if (!text.includes(` ${insidePaths.programs} `)) return false;
  const mounts = parseMountinfo(text);
  return (
    mounts.some(({ point }) => point === insidePaths.programs) &&
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
