/**
 * Decides which host paths a template may mount into a sandbox. Templates come from rooms; this policy is the host's.
 *
 * It checks the path with every link resolved, and exactly that path is mounted. Inside the workspace and cache roots it
 * allows every path without a link: an agent may have made the link to another principal's files. Elsewhere it refuses
 * homes, Bureau's own folders, and files that describe or control the host; system folders are never writable. Programs on
 * the host's network need the host's certificates and its resolver: these are mounted also through links, without the
 * private keys beside them.
 */
import { existsSync, mkdirSync, realpathSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { type Layout, systemHost } from "@bureau/os/layout";
import { makeBeneath } from "@bureau/os/make-beneath";
import { within } from "@bureau/os/mounts";
import { insidePaths } from "@bureau/schema/inside-paths";
import type { Mount } from "@bureau/schema/template";

export type MountPolicy = {
  readonly layout: Layout;
  /** Homes of the user the launcher runs as. */
  readonly homes: readonly string[];
  /** Bureau's own programs: never writable. */
  readonly buildDir: string;
};

/** A mount that may be made: absolute paths, links resolved. */
export type ResolvedMount =
  | {
      readonly type: "bind";
      readonly source: string;
      readonly dest: string;
      readonly writable: boolean;
      /** Folders of the source that stay hidden, relative to it. */
      readonly hidden?: readonly string[];
    }
  | { readonly type: "tmpfs"; readonly dest: string; readonly sizeBytes?: number; readonly mode?: string };

/** Refused when the source is one of these, contains one, or is in one. */
const HOST_ONLY = ["/root", "/home", "/proc", "/sys", "/dev", "/run", "/boot", "/var/run", "/var/spool/cron"];
const HOST_ONLY_FILES = [
  "/etc/shadow",
  "/etc/gshadow",
  "/etc/sudoers",
  "/etc/ssh",
  "/etc/ssl/private",
  "/etc/pki/tls/private",
  systemHost.configDir,
];
/** Folders that may be mounted read-only, and their hidden parts. */
const HIDDEN_BELOW: Readonly<Record<string, readonly string[]>> = {
  "/etc/ssl": ["private"],
  "/etc/pki/tls": ["private"],
};
/** On many distributions a link into /run. Only the file that it leads to may be mounted. */
const RESOLVER = "/etc/resolv.conf";
/** Refused as a whole: they contain other users' sockets and files. Folders below them may be mounted. */
const SHARED_FOLDERS = ["/tmp", "/var/tmp", "/var"];
/** Mounted read-only or not at all. */
const SYSTEM_FOLDERS = [
  "/usr",
  "/bin",
  "/sbin",
  "/lib",
  "/lib32",
  "/lib64",
  "/etc",
  "/nix",
  "/opt",
  "/var/lib",
];

/**
 * Checks one mount whose variables are expanded. Creates a missing writable source inside the workspace or cache root.
 * @returns undefined when an optional source is missing
 * @throws BureauError `forbidden`, `not-found` or `invalid-input`, naming the mount
 */
export function resolveMount(mount: Mount, policy: MountPolicy): ResolvedMount | undefined {
  const dest = checkDest(mount);
  if (mount.type === "tmpfs") return { type: "tmpfs", dest, ...tmpfsOptions(mount) };
  if (mount.options !== undefined)
    throw new BureauError(
      "invalid-input",
      `Cannot mount on "${dest}": the option "${mount.options}" is not known`,
    );
  const writable = mount.mode === "rw";
  if (mount.source === undefined || !mount.source.startsWith("/"))
    throw new BureauError("invalid-input", `Cannot mount on "${dest}": the source must be an absolute path`);
  const wanted = resolve(mount.source);
  const root = [policy.layout.workspaceRoot, policy.layout.cacheRoot].find((root) => within(wanted, root));
  const source = root === undefined ? realPath(wanted) : realPathInRoot(wanted, root, mount, writable);
  if (source === undefined) {
    if (mount.optional) return undefined;
    throw new BureauError("not-found", `Cannot mount "${wanted}" on "${dest}": it does not exist`, {
      hint: "create it, or set the mount's `optional`",
    });
  }
  if (wanted === RESOLVER && !writable && statSync(source).isFile())
    return { type: "bind", source, dest, writable };
  const hidden = writable ? [] : (HIDDEN_BELOW[source] ?? []);
  refuseForbidden(source, mount, writable, policy, hidden);
  const present = hidden.filter((name) => existsSync(join(source, name)));
  return { type: "bind", source, dest, writable, ...(present.length === 0 ? {} : { hidden: present }) };
}

function checkDest(mount: Mount): string {
  const dest = resolve(mount.dest);
  const ours = [insidePaths.run, "/proc", "/dev"];
  const sharedMemory = mount.type === "tmpfs" && dest === "/dev/shm";
  if (!sharedMemory && ours.some((path) => within(dest, path) || within(path, dest)))
    throw new BureauError(
      "forbidden",
      `Cannot mount on "${mount.dest}": it would hide "${insidePaths.run}", /proc or /dev`,
    );
  return dest;
}

/** `size=64m,mode=1777`: the only supported options. */
function tmpfsOptions(mount: Mount): { sizeBytes?: number; mode?: string } {
  const found: { sizeBytes?: number; mode?: string } = {};
  for (const option of (mount.options ?? "").split(",").filter((text) => text !== "")) {
    const size = /^size=(\d+)([kmg]?)$/i.exec(option);
    const mode = /^mode=(0?[0-7]{3,4})$/.exec(option);
    if (size !== null)
      found.sizeBytes = Number(size[1]) * 1024 ** ["", "k", "m", "g"].indexOf((size[2] ?? "").toLowerCase());
    else if (mode?.[1] !== undefined) found.mode = mode[1];
    else
      throw new BureauError(
        "invalid-input",
        `Cannot mount a tmpfs on "${mount.dest}": the option "${option}" is not known`,
      );
  }
  return found;
}

function refuseForbidden(
  source: string,
  mount: Mount,
  writable: boolean,
  policy: MountPolicy,
  hidden: readonly string[],
): void {
  const { layout } = policy;
  const refuse = (why: string): never => {
    const via = source === mount.source ? "" : ` (which is "${source}")`;
    throw new BureauError("forbidden", `Cannot mount "${mount.source}"${via} on "${mount.dest}": ${why}`, {
      hint: `mount something below "${layout.workspaceRoot}" or "${layout.cacheRoot}"`,
    });
  };
  const overlaps = (path: string): boolean => within(source, path) || within(path, source);
  for (const own of [layout.stateDir, layout.runDir])
    if (overlaps(realPath(own) ?? own)) refuse("it overlaps a folder of Bureau's own");
  if (writable && overlaps(realPath(policy.buildDir) ?? policy.buildDir))
    refuse("Bureau's programs are never writable");
  const roots = [layout.workspaceRoot, layout.cacheRoot].map((root) => realPath(root) ?? root);
  if (roots.some((root) => within(source, root))) return;
  if (source === "/") refuse("it is the whole host");
  for (const home of policy.homes) if (overlaps(realPath(home) ?? home)) refuse("it overlaps a home");
  const isHidden = (path: string): boolean => hidden.some((name) => join(source, name) === path);
  for (const path of [...HOST_ONLY, ...HOST_ONLY_FILES])
    if (overlaps(path) && !isHidden(path)) refuse(`it overlaps "${path}"`);
  if (SHARED_FOLDERS.includes(source)) refuse("it is shared by every user of the host");
  if (writable && SYSTEM_FOLDERS.some((path) => within(source, path)))
    refuse("system folders are never writable");
}

/** `wanted`, lexically inside `root`, resolved; undefined when it is missing. @throws when there is a link on the way */
function realPathInRoot(wanted: string, root: string, mount: Mount, make: boolean): string | undefined {
  const realRoot = realPath(root) ?? root;
  // Resolves the deepest existing part: with a link in it, mkdir would create a folder outside of the root.
  let existing = wanted;
  let real = realPath(existing);
  while (real === undefined && existing !== root && existing !== "/") {
    existing = dirname(existing);
    real = realPath(existing);
  }
  if (real !== undefined && !within(real, realRoot))
    throw new BureauError(
      "forbidden",
      `Cannot mount "${mount.source}" on "${mount.dest}": a link in it leads out of "${root}", to "${real}"`,
    );
  if (real !== undefined && real !== join(realRoot, relative(root, existing)))
    throw new BureauError(
      "forbidden",
      `Cannot mount "${mount.source}" on "${mount.dest}": a link in it leads to "${real}"`,
      { hint: `sandboxes write below "${root}", so no link there is followed: name the folder itself` },
    );
  if (existing === wanted && real !== undefined) return real;
  if (!make) return undefined;
  const path = real === undefined ? wanted : join(real, wanted.slice(existing.length));
  mkdirSync(root, { recursive: true, mode: 0o755 });
  const wantedFolder = { kind: "folder", make: true, folderMode: 0o700 } as const;
  const obstacle = makeBeneath(realRoot, relative(realRoot, path), wantedFolder);
  if (obstacle === undefined) return path;
  throw new BureauError(
    "forbidden",
    `Cannot mount "${mount.source}" on "${mount.dest}": another process changed it meanwhile (${obstacle.why})`,
  );
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return undefined;
    throw new BureauError("forbidden", `Cannot look at "${path}"`, { cause: error });
  }
}
