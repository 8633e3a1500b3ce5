/**
 * Mount points inside another mount of the template. bubblewrap creates missing ones as the launcher's user, and versions
 * before 0.12 follow links in the path (CVE-2026-87766). A kept folder that a sandbox may write to, such as /workspace, may
 * contain any link. So the launcher creates these mount points itself, on the host's side, beneath the mount's source
 * without following links; or it refuses.
 */
import { statSync } from "node:fs";
import { relative, resolve } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { makeBeneath, type Wanted } from "@bureau/os/make-beneath";
import { within } from "@bureau/os/mounts";
import type { ResolvedMount } from "./mount-policy.ts";

export type MountPoint = {
  readonly dest: string;
  readonly kind: Wanted["kind"];
  /** The bind mount of the template in which it lies, and whether that is writable. */
  readonly in: Extract<ResolvedMount, { type: "bind" }>;
};

/**
 * The mount points inside an earlier bind mount, in bubblewrap's order: mounts, then folders. Only for bind mounts that
 * sandboxes write to: writable ones, and those below `roots`, where others may write.
 */
export function nestedPoints(
  mounts: readonly ResolvedMount[],
  folders: readonly string[],
  roots: readonly string[],
): MountPoint[] {
  const isWritten = ({ source, writable }: MountPoint["in"]): boolean =>
    writable || roots.some((root) => within(source, root));
  const wanted = [
    ...mounts.map((mount, index) => ({
      dest: mount.dest,
      kind:
        mount.type === "tmpfs" || statSync(mount.source).isDirectory()
          ? ("folder" as const)
          : ("file" as const),
      before: mounts.slice(0, index),
    })),
    ...folders.map((path) => ({ dest: resolve("/", path), kind: "folder" as const, before: mounts })),
  ];
  return wanted.flatMap(({ before, ...point }) => {
    // The last mount covers those before it.
    const holder = before.findLast(({ dest }) => within(point.dest, dest));
    return holder?.type === "bind" && holder.dest !== point.dest && isWritten(holder)
      ? [{ ...point, in: holder }]
      : [];
  });
}

/** Creates one mount point if it is missing. @throws BureauError `forbidden` when it cannot */
export function makeMountPoint({ dest, kind, in: holder }: MountPoint): void {
  const obstacle = makeBeneath(holder.source, relative(holder.dest, dest), { kind, make: holder.writable });
  if (obstacle === undefined) return;
  const reason =
    obstacle.why === "missing"
      ? `"${obstacle.part}" is missing in "${holder.source}", which is mounted read-only`
      : `"${obstacle.part}" in "${holder.source}" is ${obstacle.why}`;
  throw new BureauError("forbidden", `Cannot mount on "${dest}": ${reason}`, {
    hint: `remove it, or mount somewhere outside "${holder.dest}"`,
  });
}
