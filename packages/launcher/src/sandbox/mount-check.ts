/**
 * A second look at mounts, after bubblewrap made them and before the program runs. Paths are checked by name first and
 * mounted by name later; who can write a folder on the way could swap it for a link in between. The kernel's mount
 * table tells what was really mounted, so a mount that slipped is found however it did.
 */

import { type MountEntry, mountsOf, originsOf, within } from "@bureau/os/mounts";
import { insidePaths } from "@bureau/schema/inside-paths";

/** True once bubblewrap has made its last mount and has let go of the host's root, which it keeps on /oldroot until then. */
export function isBuilt(initPid: number): boolean {
  const mounts = mountsOf(initPid);
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
