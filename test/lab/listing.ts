/**
 * Everything on a machine, to find what an act left behind: each path with its kind, owner, group, mode, and a
 * file's size and digest or a link's target; every user and group; every unit that is enabled. Compared with
 * `diffListings`.
 *
 * Not listed: what dies with a reboot (/proc, /sys, /dev, /run, /tmp), what is mounted from elsewhere, and what the
 * system itself writes as it runs (logs, random seed, timers). The walk follows no link, so it never
 * leaves the machine.
 */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "@bureau/kit/errors";

/** `/path`, `user NAME`, `group NAME` or `unit NAME` → its description. */
export type Listing = ReadonlyMap<string, string>;

export type ListingOptions = {
  /** Further paths to leave out, each with everything below it, or a pattern of whole paths. */
  readonly exclude?: readonly (string | RegExp)[];
};

const volatile: readonly (string | RegExp)[] = [
  ...["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log"],
  ...["/var/lib/systemd/random-seed", "/var/lib/systemd/timers", "/var/lib/systemd/timesync"],
  // What account tools keep of the content before, and their locks.
  /^\/etc\/(?:passwd|shadow|group|gshadow|subuid|subgid)-$/u,
  "/etc/.pwd.lock",
];

/** Lists the machine whose first process `proc` (`/proc/<pid>`) shows; `units` is printed by systemctl. */
export function listMachine(proc: string, units: string, options: ListingOptions): Listing {
  const root = join(proc, "root");
  const mounted = readFileSync(join(proc, "mountinfo"), "utf8")
    .split("\n")
    .flatMap((line) => line.split(" ")[4] ?? [])
    .filter((at) => at !== "/");
  const exclude = [...volatile, ...mounted, ...(options.exclude ?? [])];
  const users = namesOf(root, "passwd");
  const groups = namesOf(root, "group");
  const listing = new Map<string, string>();
  const visit = (path: string): void => {
    const stat = ignoringGone(() => lstatSync(join(root, path)));
    if (stat === undefined) return;
    const owner = `${users.get(stat.uid) ?? stat.uid}:${groups.get(stat.gid) ?? stat.gid}`;
    const mode = (stat.mode & 0o7777).toString(8).padStart(4, "0");
    listing.set(
      path,
      `${kindOf(stat)} ${owner} ${mode}${ignoringGone(() => contentOf(join(root, path), stat)) ?? ""}`,
    );
    if (!stat.isDirectory()) return;
    for (const name of ignoringGone(() => readdirSync(join(root, path))) ?? []) {
      const below = join(path, name);
      if (!exclude.some((one) => (typeof one === "string" ? one === below : one.test(below)))) visit(below);
    }
  };
  visit("/");
  for (const [kind, file] of [
    ["user", "passwd"],
    ["group", "group"],
  ] as const)
    for (const [name, rest] of accountsOf(root, file)) listing.set(`${kind} ${name}`, rest);
  for (const line of units.split("\n")) {
    const [unit, state] = line.trim().split(/\s+/u);
    if (unit !== undefined && state !== undefined) listing.set(`unit ${unit}`, state);
  }
  return listing;
}

/** The differences, a line each, sorted: `+` added, `-` removed, `~` changed. Empty without any. */
export function diffListings(before: Listing, after: Listing): string[] {
  const gone = [...before].filter(([name]) => !after.has(name)).map(([name, what]) => `- ${name}: ${what}`);
  const changed = [...after].flatMap(([name, now]) => {
    const then = before.get(name);
    if (then === undefined) return [`+ ${name}: ${now}`];
    return then === now ? [] : [`~ ${name}: ${then} → ${now}`];
  });
  return [...gone, ...changed].sort((a, b) => (a.slice(2) < b.slice(2) ? -1 : 1));
}

function contentOf(path: string, stat: Stats): string {
  if (stat.isSymbolicLink()) return ` → ${readlinkSync(path, "utf8")}`;
  if (!stat.isFile()) return "";
  return ` ${stat.size} bytes ${createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 16)}`;
}

function kindOf(stat: Stats): string {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "folder";
  if (stat.isSymbolicLink()) return "link";
  if (stat.isSocket()) return "socket";
  if (stat.isFIFO()) return "pipe";
  return "device";
}

/** Each account's name and the rest of its line. */
const accountsOf = (root: string, file: string): [string, string][] =>
  readFileSync(join(root, "etc", file), "utf8")
    .split("\n")
    .flatMap((line) => {
      const [name, ...rest] = line.split(":");
      return name === undefined || rest.length === 0 ? [] : [[name, rest.join(":")] as [string, string]];
    });

/** Number → name. */
const namesOf = (root: string, file: string): Map<number, string> =>
  new Map(accountsOf(root, file).map(([name, rest]) => [Number(rest.split(":")[1]), name]));

/** Undefined for a path that disappeared, as on a running machine. */
function ignoringGone<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
