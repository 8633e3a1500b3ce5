/**
 * bubblewrap's arguments: a pure function from a spec with resolved paths to an argument list.
 *
 * Every sandbox has its own user, pid and cgroup namespace, no capability, no set-uid and an empty root, and dies with its
 * parent, so that no program outlives its terminal. The other namespaces are the sandbox's own unless the spec shares one.
 * A shared pid namespace is refused: the program could kill every process of the launcher's user, and without its own
 * pid 1 no process would end its children.
 *
 * A program has a controlling terminal, for job control, Ctrl-C and SIGWINCH, unless the spec asks for a new session. A new
 * session would protect from input that a program types into the terminal by ioctl; the seccomp filter refuses that.
 *
 * Later mounts cover earlier ones, so Bureau's own mounts come last.
 */
import { join, resolve } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { within } from "@bureau/os/mounts";
import { insidePaths } from "@bureau/schema/inside-paths";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";
import type { ResolvedMount } from "./mount-policy.ts";
import type { ProcMasks } from "./proc-masks.ts";

/** A tool of the host, for sandboxes without an environment of their own. */
export type HostTool =
  | { readonly kind: "bind"; readonly path: string }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

export type BwrapContext = {
  readonly hostUid: number;
  readonly hostGid: number;
  readonly hostname: string;
  /** Resolved, in the template's order. */
  readonly mounts: readonly ResolvedMount[];
  /** Host folder that becomes /scratch; absent without a project. */
  readonly scratch: string | undefined;
  /** Host files put at fixed places: generated passwd, group and the like. */
  readonly files: readonly { readonly source: string; readonly dest: string }[];
  readonly procMasks: ProcMasks;
  /** The host's empty file, mounted over files. */
  readonly empty: string;
  readonly hostTools: readonly HostTool[];
  /** Tools of the environment that scripts expect at fixed places: `/bin/sh` → `<env>/bin/sh`. */
  readonly environmentLinks: readonly { readonly target: string; readonly dest: string }[];
  /** The sandbox's `inside` folder and Bureau's programs, on the host. */
  readonly inside: string;
  readonly buildDir: string;
  /** True for a service: it has a folder for its sockets. */
  readonly serves: boolean;
  /** The whole environment, see sandbox-environment.ts. */
  readonly environment: Readonly<Record<string, string>>;
  /** Size of a tmpfs without a size in its template. */
  readonly tmpfsBytes: number;
  /** The largest tmpfs, even when the template asks for more. */
  readonly memoryBytes: number;
};

/** Sockets take no space, and a service needs little beside them. */
const LISTEN_BYTES_MAX = 1024 * 1024;
const NIX_STORE = "/nix/store";

/** The uid and gid inside when the launcher runs as root: some programs refuse to run as root. */
const UNPRIVILEGED_ID = 1000;

/** Arguments up to, not including, `--` and the command. @throws BureauError `forbidden` */
export function bwrapArguments(spec: SandboxSpec, context: BwrapContext): string[] {
  refuseUnsupported(spec);
  return [
    ...namespaceArguments(spec, context),
    ...baseArguments(spec, context),
    ...homeArguments(context),
    ...context.mounts.flatMap((mount) => mountArguments(mount, context)),
    ...folderArguments(spec.create_dirs ?? [], context),
    ...scratchArguments(context),
    ...["--ro-bind", context.inside, insidePaths.run],
    ...(context.serves ? tmpfs(insidePaths.listen, "0755", LISTEN_BYTES_MAX) : []),
    // Must be the last mount: mount-check.ts waits for it.
    ...["--ro-bind", context.buildDir, insidePaths.programs],
    // bubblewrap gives these no size limit, so they are read-only.
    ...["--remount-ro", "/dev", "--remount-ro", "/"],
    "--clearenv",
    ...Object.entries(context.environment).flatMap(([name, value]) => ["--setenv", name, value]),
    ...["--chdir", context.environment["HOME"] ?? insidePaths.home],
  ];
}

/** Refuses specs that would run outside of a sandbox. @throws BureauError `forbidden` */
export function refuseUnsupported(spec: SandboxSpec): void {
  if (spec.isolation !== undefined && spec.isolation !== "" && spec.isolation !== "standard")
    throw new BureauError(
      "forbidden",
      `Cannot run with isolation "${spec.isolation}": programs run in a sandbox or not at all`,
      {
        hint: 'use isolation "standard" and mount what the program needs',
      },
    );
  if (spec.namespaces?.pid === false)
    throw new BureauError(
      "forbidden",
      "Cannot share the host's processes (namespaces.pid is false): the program could kill the launcher's",
      { hint: "leave namespaces.pid out" },
    );
}

function namespaceArguments(spec: SandboxSpec, context: BwrapContext): string[] {
  const own = spec.namespaces ?? {};
  const args = [
    "--unshare-user",
    "--unshare-pid",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--cap-drop",
    "ALL",
  ];
  if (own.net !== false) args.push("--unshare-net");
  if (own.ipc !== false) args.push("--unshare-ipc");
  if (own.uts !== false) args.push("--unshare-uts", "--hostname", context.hostname);
  if (spec.security?.new_session === true) args.push("--new-session");
  const { uid, gid } = insideIds(context);
  return [...args, "--uid", String(uid), "--gid", String(gid)];
}

/** The ids a program has inside. */
export const insideIds = (host: {
  readonly hostUid: number;
  readonly hostGid: number;
}): { uid: number; gid: number } =>
  host.hostUid === 0
    ? { uid: UNPRIVILEGED_ID, gid: UNPRIVILEGED_ID }
    : { uid: host.hostUid, gid: host.hostGid };

function baseArguments(spec: SandboxSpec, context: BwrapContext): string[] {
  const tools =
    spec.environment_path === undefined
      ? context.hostTools.flatMap((tool) =>
          tool.kind === "bind" ? ["--ro-bind", tool.path, tool.path] : ["--symlink", tool.target, tool.path],
        )
      : context.environmentLinks.flatMap(({ target, dest }) => ["--symlink", target, dest]);
  return [
    ...(needsStore(spec, context) ? ["--ro-bind", NIX_STORE, NIX_STORE] : []),
    ...tools,
    ...context.files.flatMap(({ source, dest }) => ["--ro-bind", source, dest]),
    ...["--proc", "/proc", "--dev", "/dev"],
    ...procArguments(context),
    ...tmpfs("/dev/shm", "1777", context.tmpfsBytes),
    ...tmpfs("/tmp", "1777", context.tmpfsBytes),
  ];
}

const procArguments = ({ procMasks, empty }: BwrapContext): string[] => [
  ...procMasks.readOnly.flatMap((path) => ["--ro-bind", path, path]),
  ...procMasks.folders.flatMap(hiddenFolder),
  ...procMasks.files.flatMap((path) => ["--ro-bind", empty, path]),
];

/** An environment is in the store. So may be Bureau's programs, as links to further store paths. */
const needsStore = (spec: SandboxSpec, context: BwrapContext): boolean =>
  (spec.environment_path !== undefined || within(context.buildDir, NIX_STORE)) &&
  !context.mounts.some(({ dest }) => dest === "/nix" || dest === NIX_STORE);

/** Without a mount for it, the home is an empty tmpfs that ends with the sandbox. */
function homeArguments(context: BwrapContext): string[] {
  const home = resolve("/", context.environment["HOME"] ?? insidePaths.home);
  if (within(home, "/tmp") || home === "/" || context.mounts.some(({ dest }) => within(home, dest)))
    return [];
  return tmpfs(home, "0700", context.tmpfsBytes);
}

const tmpfs = (dest: string, mode: string, bytes: number): string[] => [
  ...["--perms", mode, "--size", String(bytes)],
  ...["--tmpfs", dest],
];

/** Writable folders. One that contains a mount, or is in one, is only created when it is missing. */
function folderArguments(folders: readonly string[], context: BwrapContext): string[] {
  const home = resolve("/", context.environment["HOME"] ?? insidePaths.home);
  const mounted = [...context.mounts.map(({ dest }) => dest), home, "/tmp", "/dev", "/proc", insidePaths.run];
  const sized: string[] = [];
  return folders.flatMap((folder) => {
    // Without "..": through a link it would reach another folder than mount-points.ts has checked.
    const path = resolve("/", folder);
    const taken = [...mounted, ...sized].some((point) => within(path, point) || within(point, path));
    if (taken) return ["--dir", path];
    sized.push(path);
    return tmpfs(path, "0755", context.tmpfsBytes);
  });
}

function mountArguments(mount: ResolvedMount, context: BwrapContext): string[] {
  if (mount.type === "bind")
    return [
      ...[mount.writable ? "--bind" : "--ro-bind", mount.source, mount.dest],
      ...(mount.hidden ?? []).flatMap((name) => hiddenFolder(join(mount.dest, name))),
    ];
  const bytes = Math.min(mount.sizeBytes ?? context.tmpfsBytes, context.memoryBytes);
  return tmpfs(mount.dest, mount.mode ?? "0755", bytes);
}

/** The folder stays empty. */
const HIDDEN_BYTES = 4_096;

/** An empty read-only folder over the existing one. */
const hiddenFolder = (path: string): string[] => [
  ...tmpfs(path, "0555", HIDDEN_BYTES),
  ...["--remount-ro", path],
];

function scratchArguments(context: BwrapContext): string[] {
  if (context.scratch === undefined || context.mounts.some(({ dest }) => dest === insidePaths.scratch))
    return [];
  return ["--bind", context.scratch, insidePaths.scratch];
}
