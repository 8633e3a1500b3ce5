/** Free bytes and inodes of a file system, against the limits of docs/doctor.md. */
import { existsSync, type StatsFs, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { type Finding, fail, pass, type Status, warn } from "./check.ts";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** Below `spaceWarn` the file system is nearly full, below `spaceFail` writes fail. */
const spaceWarn = { share: 0.1, bytes: 2 * GIB };
const spaceFail = { share: 0.01, bytes: 100 * MIB };

/** The folder that `path` is in, or will be in, with what its file system says. */
export function fileSystemOf(path: string): { at: string; stat: FileSystem } {
  let at = path;
  while (!existsSync(at) && at !== "/") at = dirname(at);
  return { at, stat: statfsSync(at) };
}

/** Bytes or inodes, the scarcer of the two. */
export function findingOfSpace(at: string, stat: FileSystem): Finding {
  const inodes = inodeFinding(at, stat);
  const blocks = blockFinding(at, stat);
  return severity[inodes.status] > severity[blocks.status] ? inodes : blocks;
}

type FileSystem = Pick<StatsFs, "bavail" | "bsize" | "blocks" | "ffree" | "files">;
const severity: Readonly<Record<Status, number>> = { skip: 0, pass: 0, warn: 1, fail: 2 };

/** Without free inodes no file can be created, even with free space. Some file systems count none (Btrfs). */
function inodeFinding(at: string, { ffree, files }: FileSystem): Finding {
  if (files === 0) return pass("inodes are not limited");
  const share = ffree / files;
  const found = `${ffree} of ${files} inodes free on ${at}, ${Math.floor(share * 100)} %`;
  const hint = { hint: `du -x --inodes --max-depth=2 ${at} | sort -n | tail` };
  if (share < spaceFail.share) return fail(found, hint);
  return share < spaceWarn.share ? warn(found, hint) : pass(found);
}

function blockFinding(at: string, stat: FileSystem): Finding {
  const [free, total] = [stat.bavail * stat.bsize, stat.blocks * stat.bsize];
  const share = total === 0 ? 1 : free / total;
  const found = `${sizeText(free)} free on ${at}, ${Math.floor(share * 100)} % of ${sizeText(total)}`;
  const hint = { hint: `du -xh --max-depth=2 ${at} | sort -h | tail` };
  // A file system in memory is small on purpose, so only its share counts.
  const small = total < 2 * spaceWarn.bytes;
  if (share < spaceFail.share || (free < spaceFail.bytes && !(small && share > 0.5)))
    return fail(found, hint);
  if (share < spaceWarn.share || (free < spaceWarn.bytes && !small)) return warn(found, hint);
  return pass(found);
}

export const sizeText = (bytes: number): string =>
  bytes >= GIB ? `${(bytes / GIB).toFixed(1)} GiB` : `${Math.floor(bytes / MIB)} MiB`;
