/**
 * The paths of everything that Bureau keeps on a host. No other module spells `/run/bureau` or joins a socket's name.
 * It serves both kinds of installation: system (the specification's paths) and rootless (one folder, `BUREAU_HOME`).
 *
 * ```
 * runDir/launcher.sock observe.sock tmux.sock tmux.conf supervisor.sock homeserver.sock
 * runDir/fleet/<fleet>/<type>/<name>.proxy.sock .admin.sock
 * runDir/fleet/<fleet>/sandbox/<type>+<name>/        one folder a sandbox: see SandboxPaths
 * stateDir/machine-key.txt session.json …
 * ```
 */
import { lstatSync, mkdirSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { fileError } from "@bureau/kit/file-error";
import { serviceSocketName } from "@bureau/schema/inside-paths";
import {
  type FleetLocalpart,
  fleetName,
  localpartBytesMaxFor,
  nameWithoutType,
  type PrincipalName,
  principalType,
  sanitised,
} from "@bureau/schema/refs";
import { sha256Hex } from "./digest.ts";
import { realPath } from "./own-build.ts";

/** The folders of one installation on one host. */
export type Layout = {
  /** Sockets, and everything that a reboot removes. */
  readonly runDir: string;
  /** Keys, sessions, durable state; 0700. */
  readonly stateDir: string;
  readonly workspaceRoot: string;
  readonly cacheRoot: string;
};

/** A system installation (specification, "Directory Ownership"). */
export const systemLayout: Layout = {
  runDir: "/run/bureau",
  stateDir: "/var/lib/bureau",
  workspaceRoot: "/var/bureau/workspace",
  cacheRoot: "/var/bureau/cache",
};

/**
 * Names and paths of a system installation besides its {@link Layout}: the names of the specification's "Privilege
 * Model", and the paths of doctor's resources. Root owns all of it but `buildDir`.
 */
export const systemHost = {
  user: "bureau",
  operatorsGroup: "bureau-operators",
  configDir: "/etc/bureau",
  machineConf: "/etc/bureau/machine.conf",
  /** The record of what Bureau made on this host, so that exactly that can be removed. */
  installRecord: "/etc/bureau/installed.json",
  /** Copies of files that a fix replaced. */
  backupsDir: "/etc/bureau/backups",
  dataDir: "/var/bureau",
  /** Whole builds, `<id>/{bin,lib,runtime}`, never changed; a Nix store path serves instead where there is Nix. */
  buildsDir: "/var/bureau/builds",
  /** The system user owns it, so the boot link moves without root. */
  buildDir: "/var/bureau/programs",
  /** A link to the build that units run. */
  currentPrograms: "/var/bureau/programs/current",
  /** Links for people, on PATH through `profile`. */
  binDir: "/var/bureau/bin",
  /** The command as root types it: sudo's PATH does not lead to `binDir`. */
  command: "/var/bureau/bin/bureau",
  profile: "/etc/profile.d/bureau.sh",
  unitDir: "/etc/systemd/system",
  sysusers: "/etc/sysusers.d/bureau.conf",
  tmpfiles: "/etc/tmpfiles.d/bureau.conf",
  /** Kernel settings that let bubblewrap make namespaces, and AppArmor's profile that does. */
  sysctlFile: "/etc/sysctl.d/60-bureau.conf",
  apparmorProfile: "/etc/apparmor.d/bureau-bwrap",
  /** A garbage collection root of Nix: keeps the build that doctor ran from in the store. */
  nixRoot: "/nix/var/nix/gcroots/bureau",
  /** The machine's age key, sealed by systemd-creds; only pid 1 can open it. */
  sealedKey: "/var/lib/bureau/machine-key.cred",
} as const;

/** The paths of a rootless instance: those of every installation, and its own. */
export type InstanceLayout = Layout & {
  /** `BUREAU_HOME`: the one folder that holds everything of the instance. */
  readonly home: string;
  readonly homeserverDir: string;
  readonly logDir: string;
  /** Homeserver address, server name, fleet, machine name, chosen once. */
  readonly instanceFile: string;
  /** The operator's Matrix session. */
  readonly sessionFile: string;
  /** The administrator's credentials, KEY=VALUE (wire facts, section 9.4). */
  readonly credentialFile: string;
  readonly registrationTokenFile: string;
  /** A link to the build that is known to work, from which programs start. Missing before the first upgrade. */
  readonly currentPrograms: string;
  readonly supervisorSocket: string;
  /** The address at which the instance's own programs reach its homeserver. */
  readonly homeserverSocket: string;
  readonly supervisorStateFile: string;
};

/**
 * A run folder in the home must leave this many bytes for a localpart; otherwise the sockets use a short path. 64 has
 * room for the longest `<fleet>/agent/<name>` that a person would type.
 */
const LOCALPART_BYTES_WANTED = 64;

/** The layout of the rootless instance at `home`; makes nothing. */
export function instanceLayout(home: string, env: Env): InstanceLayout {
  const root = withoutLinks(resolve(home));
  const runDir = shortRunDir(root, env);
  return {
    home: root,
    runDir,
    stateDir: join(root, "state"),
    workspaceRoot: join(root, "workspace"),
    cacheRoot: join(root, "cache"),
    homeserverDir: join(root, "homeserver"),
    logDir: join(root, "logs"),
    instanceFile: join(root, "instance.json"),
    sessionFile: join(root, sessionFileName),
    credentialFile: join(root, "credentials"),
    registrationTokenFile: join(root, "registration-token"),
    currentPrograms: join(root, "programs", "current"),
    supervisorSocket: join(runDir, "supervisor.sock"),
    homeserverSocket: join(runDir, "homeserver.sock"),
    supervisorStateFile: join(root, "supervisor.json"),
  };
}

/** Resolves links as far as the path exists, so one folder has the same sockets and locks under every path to it. */
function withoutLinks(path: string): string {
  const real = realPath(path);
  if (real !== undefined) return real;
  const parent = dirname(path);
  return parent === path ? path : join(withoutLinks(parent), basename(path));
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * `BUREAU_HOME`, else `$XDG_DATA_HOME/bureau`, else `~/.local/share/bureau`. @throws BureauError as {@link homeFolder}
 */
export function defaultHome(env: Env): string {
  const explicit = env["BUREAU_HOME"];
  if (explicit !== undefined && explicit !== "") return resolve(explicit);
  return join(userFolder("XDG_DATA_HOME", join(".local", "share"), env), "bureau");
}

/** The name of an operator's session file, in an instance and in the operator's configuration folder. */
export const sessionFileName = "session.json";

/** Beside a person's session file: the rooms that aliases stood for. */
export const roomMemoryOf = (sessionFile: string): string => `${sessionFile}.rooms`;

/** The folder in `variable`, else `below` the home folder (XDG Base Directory Specification). @throws BureauError */
export function userFolder(variable: string, below: string, env: Env): string {
  const named = env[variable];
  return named?.startsWith("/") ? named : join(homeFolder(env), below);
}

/** `HOME`, else what passwd has. @throws BureauError `not-found` for an account without either, as containers have */
function homeFolder(env: Env): string {
  const named = env["HOME"];
  if (named?.startsWith("/")) return named;
  try {
    return userInfo().homedir;
  } catch {
    throw new BureauError(
      "not-found",
      `Cannot tell your home folder: HOME is not set, and user ${process.getuid?.()} has no entry in passwd`,
      { hint: "export HOME=/a/folder/of/yours" },
    );
  }
}

/** `XDG_RUNTIME_DIR`, if our user owns it: after `su` it is still the folder of the person who logged in. */
function runtimeFolder(env: Env): string | undefined {
  const named = env["XDG_RUNTIME_DIR"];
  const stat = named?.startsWith("/") ? statSync(named, { throwIfNoEntry: false }) : undefined;
  return stat?.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0
    ? named
    : undefined;
}

function shortRunDir(home: string, env: Env): string {
  const inside = join(home, "run");
  if (localpartBytesMaxFor(inside) >= LOCALPART_BYTES_WANTED) return inside;
  const tag = sha256Hex(home).slice(0, 8);
  const runtime = runtimeFolder(env);
  if (runtime !== undefined) {
    const short = join(runtime, `bureau-${tag}`);
    if (localpartBytesMaxFor(short) >= LOCALPART_BYTES_WANTED) return short;
  }
  return `/tmp/bureau-${process.getuid?.() ?? 0}-${tag}`;
}

/**
 * Makes a folder that only we may enter, or checks that it is one: in a shared place such as /tmp another user may
 * have made it first. @throws BureauError `forbidden` when it is not ours
 */
export function makePrivateDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    // The path is a file or a link: the check below reports it.
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined)
      throw fileError(`Cannot make the folder "${path}"`, error, "name another with BUREAU_HOME");
  }
  const stat = lstatSync(path);
  if (stat.uid !== process.getuid?.())
    throw new BureauError("forbidden", `Cannot use the folder "${path}": it belongs to user ${stat.uid}`, {
      hint: "name another with BUREAU_HOME, or, where it lies in /tmp, set XDG_RUNTIME_DIR to a folder of yours",
    });
  if (!stat.isDirectory())
    throw new BureauError("forbidden", `Cannot use the folder "${path}": it is a file or a link`, {
      hint: "move it away, or name another folder with BUREAU_HOME",
    });
  if ((stat.mode & 0o777) !== 0o700)
    throw new BureauError("forbidden", `Cannot use the folder "${path}": it must have the mode 0700`, {
      hint: `chmod 700 "${path}", or name another folder with BUREAU_HOME`,
    });
}

/**
 * A lock between all of one user's commands on this host, for every instance. The file stays, empty. It is in a folder
 * that only this user may write to: in /tmp any user could hold it, or create it first.
 * @throws BureauError when there is no such folder
 */
export function userLockFile(name: string, env: Env): string {
  const file = `bureau-${name}.lock`;
  const runtime = runtimeFolder(env);
  if (runtime !== undefined) return join(runtime, file);
  try {
    const folder = join(userFolder("XDG_STATE_HOME", join(".local", "state"), env), "bureau", "locks");
    makePrivateDir(folder);
    return join(folder, file);
  } catch (error) {
    // An account without a writable home uses the folder that BUREAU_HOME names.
    if ((env["BUREAU_HOME"] ?? "") === "") throw error;
    const folder = join(defaultHome(env), "locks");
    makePrivateDir(folder);
    return join(folder, file);
  }
}

/** The log of one of an instance's programs, and of its supervisor. */
export const programLog = (layout: InstanceLayout, program: string): string =>
  join(layout.logDir, `${program}.log`);
/** Held by a supervisor for its lifetime; names its process. */
export const supervisorLockFile = (layout: InstanceLayout): string => join(layout.home, "supervisor.lock");
/** Held by one `bureau up` or `bureau down` of an instance at a time. */
export const upLockFile = (layout: InstanceLayout): string => join(layout.home, "up.lock");
/** The one-time password that an instance's launcher joins with; removed once it has joined. */
export const bootstrapFile = (layout: InstanceLayout): string => join(layout.stateDir, "bootstrap.json");

/** Sockets that a program takes over from systemd, or from the program it replaces, by name. */
export const socketNames = { launcher: "launcher.sock", observe: "observe.sock" } as const;

export const launcherSocket = (layout: Layout): string => join(layout.runDir, socketNames.launcher);
export const observeSocket = (layout: Layout): string => join(layout.runDir, socketNames.observe);
/** A connection to it starts a proxy, where systemd runs proxies in units of their own. */
export const proxySpawnSocket = (layout: Layout): string => join(layout.runDir, "proxy-spawn.sock");
export const tmuxSocket = (layout: Layout): string => join(layout.runDir, "tmux.sock");
export const tmuxConfig = (layout: Layout): string => join(layout.runDir, "tmux.conf");
/** Names the daemon on trial that the launcher watches. */
export const daemonWatchFile = (layout: Layout): string => join(layout.runDir, "daemon-watch.json");
/** Event messages that the daemon had not sent when another build replaced it. */
export const unsentMessagesFile = (layout: Layout): string => join(layout.runDir, "unsent-notices.json");

/** Held by a launcher for its lifetime. */
export const launcherLockFile = (layout: Layout): string => join(layout.stateDir, "launcher.lock");
/** See os/watchdog-record. */
export const watchdogFile = (layout: Layout, component: "daemon" | "launcher"): string =>
  join(layout.stateDir, `${component}-watchdog.cbor`);
export const machineKeyFile = (layout: Layout): string => join(layout.stateDir, "machine-key.txt");
export const machinePublicKeyFile = (layout: Layout): string => join(layout.stateDir, "machine-key.pub");
/** The key that signs service tokens: 64 raw bytes, 0600 (wire facts, section 6.6). */
export const tokenSigningKeyFile = (layout: Layout): string => join(layout.stateDir, "token-signing-key");
export const machineSessionFile = (layout: Layout): string => join(layout.stateDir, "session.json");
/** The principals whose work has completed; must survive a reboot. */
export const daemonStateFile = (layout: Layout): string => join(layout.stateDir, "daemon-state.json");
/** The configuration of each principal that last worked, and a later one that failed; one file a principal. */
export const specHistoryDir = (layout: Layout): string => join(layout.stateDir, "spec-history");
/** The builds of the machine, and the request under way for another one. */
export const upgradeStateFile = (layout: Layout): string => join(layout.stateDir, "upgrade-state.json");
/** Audit events that are to be sent, and where their chain stands. */
export const auditFile = (layout: Layout): string => join(layout.stateDir, "audit.jsonl");
/** Links that keep builds in the Nix store, beside the boot link; one for each store path, with its name. */
export const versionRootsDir = (bootLink: string): string => join(dirname(bootLink), "nix-roots");
/** Last screens of principals whose sandbox is gone. */
export const lastOutputFile = (layout: Layout, account: PrincipalName): string =>
  join(layout.stateDir, "last-output", `${account.replaceAll("/", "+")}.txt`);

export const fleetRunDir = (layout: Layout, fleet: FleetLocalpart): string =>
  join(layout.runDir, "fleet", fleetName(fleet));

/** The files and sockets of one sandbox. */
export type SandboxPaths = {
  /** `sandbox/<type>+<name>`; only Bureau's user may enter it. */
  readonly dir: string;
  /** Becomes `/run/bureau` inside, read-only: the proxy's socket may be replaced and is still seen. Its path may be
   * longer than a socket address, so the proxy listens by relative path and others use `proxyLink`. */
  readonly inside: string;
  readonly proxySocket: string;
  readonly egressSocket: string;
  readonly payload: string;
  readonly trigger: string;
  readonly secrets: string;
  /** Sockets and tokens of the services that it requires. */
  readonly services: string;
  readonly serviceTokens: string;
  /**
   * Of a service, and not visible in its sandbox: the folder of the socket at which others reach it. Its proxy forwards
   * connections to the program's own socket, which lies on a tmpfs of the sandbox.
   */
  readonly listen: string;
  readonly serviceSocket: string;
  /** A link to the sandbox's root as the host sees it, once a service's program runs. */
  readonly root: string;
  readonly record: string;
  readonly script: string;
  readonly bwrapArguments: string;
  readonly bwrapStatus: string;
  readonly seccompFilter: string;
  /** An empty file, mounted over files that a program must not read. */
  readonly empty: string;
  readonly exitCode: string;
  /** tmux writes the last screen there for the launcher, which removes it. */
  readonly screen: string;
  /** `<fleet>/<type>/<name>.proxy.sock`, a link to `proxySocket`: the name the wire gives it. */
  readonly proxyLink: string;
  readonly adminSocket: string;
  /** `<fleet>/service/<name>.sock`, a link to `service.sock` in `listen`; undefined except for services. */
  readonly serviceLink: string | undefined;
};

/**
 * `+` joins the segments of a sandbox's folder, because a dash may be in a name: `agent/a-b` and `agent/a/b` are two.
 */
export function sandboxPaths(layout: Layout, fleet: FleetLocalpart, account: PrincipalName): SandboxPaths {
  const base = fleetRunDir(layout, fleet);
  const dir = join(base, "sandbox", account.replaceAll("/", "+"));
  const inside = join(dir, "inside");
  const stem = join(base, principalType(account), nameWithoutType(account));
  return {
    dir,
    inside,
    proxySocket: join(inside, "proxy.sock"),
    egressSocket: join(inside, "egress.sock"),
    payload: join(inside, "payload.json"),
    trigger: join(inside, "trigger.json"),
    secrets: join(inside, "secrets"),
    services: join(inside, "service"),
    serviceTokens: join(inside, "service", "token"),
    listen: join(inside, "listen"),
    serviceSocket: join(inside, "listen", serviceSocketName),
    root: join(dir, "root"),
    record: join(dir, "record.json"),
    script: join(dir, "sandbox.sh"),
    bwrapArguments: join(dir, "bwrap.args"),
    bwrapStatus: join(dir, "bwrap.status"),
    seccompFilter: join(dir, "seccomp.bpf"),
    empty: join(dir, "empty"),
    exitCode: join(dir, "exit-code"),
    screen: join(dir, "screen"),
    proxyLink: `${stem}.proxy.sock`,
    adminSocket: `${stem}.admin.sock`,
    serviceLink: principalType(account) === "service" ? `${stem}.sock` : undefined,
  };
}

/** The name of a principal's tmux session. tmux forbids `.` and `:`, so a dot is written `~`, which no name holds. */
export const tmuxSession = (account: PrincipalName): string => `bureau/${account.replaceAll(".", "~")}`;

export const systemdScope = (account: PrincipalName): string => `bureau-${sanitised(account)}`;
