/**
 * Handles on files and folders below a folder that others may write to: links that they create, before or during the
 * call, never lead outside of it.
 *
 * Does the same as openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, one path component at a time.
 * The call itself is out of reach where systemd restricts set-uid bits: its arguments lie in memory that a filter
 * cannot read, so the filter answers ENOSYS.
 */
import { closeSync, constants, fstatSync, openSync } from "node:fs";

/** Of fcntl.h; the runtime does not name them. */
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const { O_NOFOLLOW } = constants;

/** A handle on a file or folder, by a trusted path. Its name is `/proc/self/fd/<n>`; the caller closes it. */
export const openHandle = (path: string): number => openSync(path, O_PATH | O_CLOEXEC);

/**
 * A handle on the file or folder at `path` below the open folder; follows no link. @throws Error with the errno as
 * `code`: ELOOP for a link anywhere on the way
 */
export function openBeneath(folder: number, path: string): number {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..")) throw Object.assign(new Error(`"${path}" leads upwards`), { code: "EXDEV" });
  let handle = openHandle(`/proc/self/fd/${folder}`);
  for (const name of names) {
    const before = handle;
    try {
      handle = openStep(before, name);
    } finally {
      closeSync(before);
    }
  }
  return handle;
}

function openStep(folder: number, name: string): number {
  const handle = openSync(`/proc/self/fd/${folder}/${name}`, O_PATH | O_CLOEXEC | O_NOFOLLOW);
  if (!fstatSync(handle).isSymbolicLink()) return handle;
  closeSync(handle);
  throw Object.assign(new Error(`ELOOP: "${name}" is a link`), { code: "ELOOP" });
}
