/** Mounts, as the kernel reports them, and the processes that have a folder mounted. */
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { argumentsOf, identify, type ProcessId } from "./process-table.ts";

/** True when `path` is `folder` or below it. Both absolute and normalised. */
export const within = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);

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

/** Spaces and some other characters are written as three octal digits. */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** The mounts a process sees; empty when it is gone. */
export const mountsOf = (pid: number | "self"): MountEntry[] => parseMountinfo(mountinfoOf(pid));

/** The kernel's text of the mounts a process sees; empty when it is gone. */
export function mountinfoOf(pid: number | "self"): string {
  try {
    return readFileSync(`/proc/${pid}/mountinfo`, "utf8");
  } catch {
    return "";
  }
}

/**
 * True when this /proc shows a user without privileges only processes that it may trace (hidepid of proc(5)): programs
 * that guard their memory are then hidden even from their own user, though not from root, nor, by most values, from the
 * group that the mount names.
 */
export function hidesProcesses(
  mountinfo: string,
  user: { readonly uid: number; readonly groups: readonly number[] },
): boolean {
  const proc = mountinfo.split("\n").findLast((line) => line.split(" ")[4] === "/proc");
  const options = (proc?.split(" - ")[1]?.split(" ")[2] ?? "").split(",");
  const optionOf = (name: string): string | undefined =>
    options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const hidden = optionOf("hidepid") ?? "0";
  if (user.uid === 0 || ["0", "off"].includes(hidden)) return false;
  const exempt = optionOf("gid");
  const isExempt = exempt !== undefined && user.groups.includes(Number(exempt));
  return !isExempt || ["4", "ptraceable"].includes(hidden);
}

/** What a recursive bind of `source` mounts: itself, and every mount below it. */
export function originsOf(host: readonly MountEntry[], source: string): string[] {
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

/**
 * Every process in a mount namespace other than ours that has `folder`, or a part of it, mounted; and every bubblewrap
 * that has a file below it open, because it was stopped before it mounted anything. Finds sandboxes of which no other
 * trace is left.
 */
export function findInhabitants(folder: string): ProcessId[] {
  const real = existsSync(folder) ? realpathSync(folder) : folder;
  const [origin = ""] = originsOf(mountsOf("self"), real);
  const space = origin.indexOf(" ");
  const [device, root] = [origin.slice(0, space), origin.slice(space + 1)];
  const ours = linkOf("/proc/self/ns/mnt");
  const lives = (pid: number): boolean =>
    linkOf(`/proc/${pid}/ns/mnt`) !== ours &&
    mountsOf(pid).some((mount) => mount.device === device && within(mount.root, root));
  const found: ProcessId[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || !(lives(pid) || isStuckBelow(pid, real))) continue;
    const id = identify(pid);
    if (id !== undefined) found.push(id);
  }
  return found;
}

function isStuckBelow(pid: number, folder: string): boolean {
  if (!/(^|\/)bwrap$/.test(argumentsOf(pid)[0] ?? "")) return false;
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => within(linkOf(`/proc/${pid}/fd/${fd}`) ?? "", folder));
  } catch {
    return false;
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
