/** What is at a path, links not followed: all that checks ask of the file system. */
import { lstatSync, readFileSync, readlinkSync } from "node:fs";
import { errnoOf } from "@bureau/kit/errors";

export type Seen =
  | {
      readonly kind: "file" | "folder" | "link" | "socket" | "other";
      readonly uid: number;
      readonly gid: number;
      /** Permission bits alone. */
      readonly mode: number;
      readonly size: number;
      /** When its content was last written; milliseconds since the epoch. */
      readonly changedMs: number;
    }
  | { readonly kind: "absent" }
  /** The caller may not enter a folder above. */
  | { readonly kind: "hidden" };

export function look(path: string): Seen {
  try {
    const stat = lstatSync(path);
    const kind = stat.isFile()
      ? "file"
      : stat.isDirectory()
        ? "folder"
        : stat.isSymbolicLink()
          ? "link"
          : stat.isSocket()
            ? "socket"
            : "other";
    return {
      kind,
      uid: stat.uid,
      gid: stat.gid,
      mode: stat.mode & 0o7777,
      size: stat.size,
      changedMs: stat.mtimeMs,
    };
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return { kind: "absent" };
    if (errno === "EACCES") return { kind: "hidden" };
    throw error;
  }
}

/**
 * The text of a regular file; undefined when there is none. @throws EACCES when it may not be read, so that a hidden file
 * is never reported as missing or wrong
 */
export function textOf(path: string): string | undefined {
  if (look(path).kind !== "file") return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Where a link points; undefined when it is none. */
export const targetOf = (path: string): string | undefined =>
  look(path).kind === "link" ? readlinkSync(path, { encoding: "utf8" }) : undefined;

export const octal = (mode: number): string => mode.toString(8).padStart(4, "0");
