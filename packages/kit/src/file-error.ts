/** The kernel's error on a file, as a sentence. */
import { BureauError, type ErrorCode, errnoOf, messageOf } from "./errors.ts";

const reasons: Readonly<Record<string, readonly [code: ErrorCode, reason: string]>> = {
  ENOENT: ["not-found", "there is no such file or folder"],
  ENOTDIR: ["not-found", "a part of the path is a file, not a folder"],
  EISDIR: ["invalid-input", "it is a folder, not a file"],
  EACCES: ["forbidden", "permission is denied"],
  EPERM: ["forbidden", "the operation is not permitted"],
  EROFS: ["forbidden", "the file system is read-only"],
  ELOOP: ["invalid-input", "its links form a loop"],
  ENAMETOOLONG: ["invalid-input", "the name is too long"],
  EEXIST: ["conflict", "it exists already"],
  ENXIO: ["invalid-input", "it is a socket or a device that cannot be opened"],
  ENOSPC: ["failed", "the disk is full"],
  EDQUOT: ["failed", "the disk quota is used up"],
  EFBIG: ["too-large", "it is too large"],
  EMFILE: ["failed", "too many files are open"],
  EIO: ["failed", "the disk has an input/output error"],
};

/** `it is a folder, not a file`; the name itself where there is no sentence for it. */
export const describeErrno = (errno: string): string => reasons[errno]?.[1] ?? errno;

/** The error for an act on a file that failed: `Cannot read the key "k"`, and why. */
export function fileError(act: string, error: unknown, hint = ""): BureauError {
  const errno = errnoOf(error) ?? "";
  const [code, reason] = reasons[errno] ?? ["failed", messageOf(error)];
  return new BureauError(code, `${act}: ${reason}`, { hint });
}

const acts: Readonly<Record<string, string>> = {
  open: "open",
  read: "read",
  write: "write",
  stat: "look at",
  lstat: "look at",
  scandir: "list",
  mkdir: "make the folder",
  rmdir: "remove the folder",
  rm: "remove",
  unlink: "remove",
  rename: "replace",
  chmod: "set the mode of",
  chown: "set the owner of",
  symlink: "make the link",
  readlink: "read the link",
  realpath: "find",
};

/** A system call on a file that failed, in words; everything else as it is. */
export function unlessOfFile(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || !("syscall" in thrown)) return thrown;
  const act = acts[String(thrown.syscall)];
  const errno = errnoOf(thrown);
  if (act === undefined || errno === undefined || reasons[errno] === undefined) return thrown;
  const what = "path" in thrown && typeof thrown.path === "string" ? `"${thrown.path}"` : "a file";
  if (errno === "EEXIST" && thrown.syscall === "mkdir")
    return new BureauError("conflict", `Cannot ${act} ${what}: a file has that name`);
  return fileError(`Cannot ${act} ${what}`, thrown);
}
