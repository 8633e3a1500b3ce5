/**
 * What of /proc a sandbox does not get as the kernel makes it. Files there go by the user that a process has on the host:
 * where that is root, a program without any capability would write the kernel's settings, and bubblewrap leaves most of
 * them open. So root's sandboxes see the settings read-only and what only root may read or write not at all.
 */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";

export type ProcMasks = {
  /** Folders of the host that are mounted over the sandbox's own, read-only. They hold the same. */
  readonly readOnly: readonly string[];
  /** Covered by an empty folder, after those above. */
  readonly folders: readonly string[];
  /** Covered by an empty file. */
  readonly files: readonly string[];
};

/** An entry of /proc that is no process and no link. */
export type ProcEntry = { readonly path: string; readonly isFolder: boolean; readonly mode: number };

/** They name keys of the host's users, and who has how many (keyrings(7)); a kernel without keyrings has neither. */
const KEYS = ["/proc/keys", "/proc/key-users"];
const SETTINGS = "/proc/sys";
/** Interpreters that the kernel starts. Hosts mount it when it is first looked at, and then not read-only. */
const INTERPRETERS = "/proc/sys/fs/binfmt_misc";
/** Root may write nothing in them that an ordinary user may not, or bubblewrap makes them read-only itself. */
const LEFT_FOLDERS = ["/proc/bus", "/proc/irq", "/proc/pressure", "/proc/sysvipc", "/proc/tty"];

/** Pure. `uid` is the user on the host that the sandbox's processes are. */
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

/** What the host's /proc consists of now: modules of the kernel add to it. */
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
