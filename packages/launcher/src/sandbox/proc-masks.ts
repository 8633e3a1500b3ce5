/**
 * The parts of /proc that a sandbox sees read-only or not at all. The kernel checks access to them by the process's user on
 * the host: as root, a program without any capability could write the kernel's settings, and bubblewrap protects few of
 * them. So root's sandboxes see the settings read-only, and files that only root may read or write are hidden.
 */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";

export type ProcMasks = {
  /** Folders of the host, with the same content, that are mounted read-only over the sandbox's own. */
  readonly readOnly: readonly string[];
  /** Covered by an empty folder, after those above. */
  readonly folders: readonly string[];
  /** Covered by an empty file. */
  readonly files: readonly string[];
};

/** An entry of /proc that is no process and no link. */
export type ProcEntry = { readonly path: string; readonly isFolder: boolean; readonly mode: number };

/** Keys of the host's users, and how many each user has (keyrings(7)). Missing on a kernel without keyrings. */
const KEYS = ["/proc/keys", "/proc/key-users"];
const SETTINGS = "/proc/sys";
/** Interpreters that the kernel starts. The host mounts it writable on the first access. */
const INTERPRETERS = "/proc/sys/fs/binfmt_misc";
/** Root may write there only what any user may write, or bubblewrap mounts them read-only. */
const LEFT_FOLDERS = ["/proc/bus", "/proc/irq", "/proc/pressure", "/proc/sysvipc", "/proc/tty"];

/** Pure. `uid` is the user of the sandbox's processes on the host. */
export function procMasks(uid: number, entries: readonly ProcEntry[]): ProcMasks {
  const keys = entries.map(({ path }) => path).filter((path) => KEYS.includes(path));
  if (uid !== 0) return { readOnly: [], folders: [], files: keys };
  const isRootsAlone = ({ mode }: ProcEntry): boolean => (mode & 0o222) !== 0 || (mode & 0o004) === 0;
  const left = [SETTINGS, ...LEFT_FOLDERS];
  const folders = entries.filter(({ path, isFolder }) => isFolder && !left.includes(path));
  const files = entries.filter((entry) => !entry.isFolder && isRootsAlone(entry));
  const pathsOf = (some: readonly ProcEntry[]): string[] => some.map(({ path }) => path);
  return { readOnly: [SETTINGS], folders: pathsOf(folders), files: [...keys, ...pathsOf(files)] };
}

/** The present entries of the host's /proc: kernel modules add some. */
export function procEntries(): ProcEntry[] {
  const paths = readdirSync("/proc")
    .filter((name) => !/^\d+$/.test(name))
    .map((name) => join("/proc", name));
  return [...paths, INTERPRETERS].flatMap((path) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined || stat.isSymbolicLink()) return [];
    return [{ path, isFolder: stat.isDirectory(), mode: stat.mode }];
  });
}
