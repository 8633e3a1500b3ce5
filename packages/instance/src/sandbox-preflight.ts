/**
 * The preflight of a rootless instance: can this host make sandboxes without root? It makes one, with the programs and
 * namespaces that an agent gets. An error names the reason and the remedy; there is no fallback that runs an agent without
 * a sandbox.
 */
import { BureauError } from "@bureau/kit/errors";
import { readIfPresent } from "@bureau/os/durable-file";
import { hidesProcesses } from "@bureau/os/mounts";

/** What the preflight reads and runs on the host; tests hand in hosts that refuse. */
export type Host = {
  /** Runs a program to its end; undefined when there is no such program. */
  run(command: readonly string[]): { code: number; stdout: string; stderr: string } | undefined;
  /** A file under /proc/sys, trimmed. */
  sysctl(path: string): string | undefined;
  readonly osRelease: string;
  /** See {@link hidesProcesses}. */
  readonly processesAreHidden: boolean;
};

/** The programs run here end within milliseconds. */
const RUN_MS_MAX = 30_000;

export const thisHost: Host = {
  run(command) {
    const [program, ...args] = command;
    if (program === undefined || Bun.which(program) === null) return undefined;
    const done = Bun.spawnSync([program, ...args], {
      stdout: "pipe",
      stderr: "pipe",
      stdin: "ignore",
      cwd: "/",
      timeout: RUN_MS_MAX,
      killSignal: "SIGKILL",
    });
    return { code: done.exitCode, stdout: done.stdout.toString(), stderr: done.stderr.toString() };
  },
  sysctl: (path) => readIfPresent(`/proc/sys/${path}`)?.trim(),
  osRelease: readIfPresent("/etc/os-release") ?? "",
  processesAreHidden: hidesProcesses(readIfPresent("/proc/self/mountinfo") ?? "", {
    uid: process.getuid?.() ?? 0,
    groups: [process.getgid?.() ?? 0, ...(process.getgroups?.() ?? [])],
  }),
};

/** --clearenv and --perms came with 0.5 (its release notes). */
const bwrapLeast = [0, 5] as const;
/** From this version on bubblewrap follows no link while it makes mount points (CVE-2026-87766). */
const bwrapSecure = [0, 12] as const;
/** tmux 3.0: server options and formats the launcher's configuration uses. */
const tmuxLeast = [3, 0] as const;

export type SandboxTools = { readonly bwrap: string; readonly tmux: string };

/** The versions found. @throws BureauError `unsupported` with the exact remedy as its hint */
export function checkSandbox(host: Host): SandboxTools {
  const found = { bwrap: requireBwrap(host), tmux: requireTmux(host) };
  checkProcesses(host);
  checkNamespaces(host);
  return found;
}

/** The version of bubblewrap. @throws BureauError `unsupported` when it is missing or too old */
export const requireBwrap = (host: Host): string =>
  version(host, ["bwrap", "--version"], "bubblewrap", "bwrap", bwrapLeast);

/** The known fault of a working version of bubblewrap, and its remedy; undefined when there is none. */
export function bwrapFault(host: Host, found: string): { fault: string; hint: string } | undefined {
  const [major = 0, minor = 0] = found.split(".").map(Number);
  if (isAtLeast([major, minor], bwrapSecure)) return undefined;
  const newest = /^ID=debian$/m.test(host.osRelease) && /^VERSION_ID="?12"?$/m.test(host.osRelease);
  const fixed = bwrapSecure.join(".");
  return {
    fault: `${found} lacks the fix of CVE-2026-87766; Bureau works around it and makes all mount points itself`,
    hint: newest
      ? `Debian 12 has no bubblewrap with the fix: upgrade to Debian 13, or install ${fixed} or newer by hand`
      : `upgrade it to ${fixed} or newer: ${installCommand(host, "bubblewrap")}`,
  };
}

const isAtLeast = (
  [major, minor]: readonly [number, number],
  [leastMajor, leastMinor]: readonly [number, number],
): boolean => major > leastMajor || (major === leastMajor && minor >= leastMinor);

/** The version of tmux. @throws BureauError `unsupported` when it is missing or too old */
export const requireTmux = (host: Host): string => version(host, ["tmux", "-V"], "tmux", "tmux", tmuxLeast);

/** @throws BureauError `unsupported` where launcher and daemon can be neither identified nor stopped */
function checkProcesses(host: Host): void {
  if (!host.processesAreHidden) return;
  throw new BureauError(
    "unsupported",
    "/proc hides processes here (hidepid), including Bureau's programs, which protect their memory: Bureau could not supervise them",
    {
      hint: `to make them visible: sudo groupadd -f proc && sudo usermod -aG proc "$USER" && sudo mount -o remount,hidepid=invisible,gid=proc /proc, then log in again`,
    },
  );
}

/** Makes a sandbox. @throws BureauError `unsupported` with the reason and the remedy */
export function checkNamespaces(host: Host): void {
  const made = host.run([
    "bwrap",
    ...[
      "--unshare-user",
      "--unshare-pid",
      "--unshare-net",
      "--unshare-ipc",
      "--unshare-uts",
      "--die-with-parent",
    ],
    ...["--new-session", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"],
    ...["--", "/bin/sh", "-c", "echo sandboxed"],
  ]);
  if (made === undefined || made.code !== 0 || made.stdout.trim() !== "sandboxed")
    throw explain(host, (made?.stderr ?? "").trim() || "it printed nothing");
}

function version(
  host: Host,
  command: readonly string[],
  packageName: string,
  program: string,
  least: readonly [number, number],
): string {
  const done = host.run(command);
  const hint = `install it: ${installCommand(host, packageName)}`;
  if (done === undefined)
    throw new BureauError("unsupported", `Cannot find the program "${program}"`, { hint });
  const found = /(\d+)\.(\d+)/.exec(done.stdout);
  const [major, minor] = [Number(found?.[1] ?? 0), Number(found?.[2] ?? 0)];
  if (!isAtLeast([major, minor], least))
    throw new BureauError(
      "unsupported",
      `"${program}" is version ${done.stdout.trim()}, Bureau needs ${least.join(".")} or newer`,
      { hint },
    );
  return `${major}.${minor}`;
}

function installCommand(host: Host, name: string): string {
  const like = `${/^ID=(.*)$/m.exec(host.osRelease)?.[1] ?? ""} ${/^ID_LIKE=(.*)$/m.exec(host.osRelease)?.[1] ?? ""}`;
  if (/debian|ubuntu/.test(like)) return `sudo apt-get install -y ${name}`;
  if (/fedora|rhel/.test(like)) return `sudo dnf install -y ${name}`;
  if (/arch/.test(like)) return `sudo pacman -S ${name}`;
  if (/suse/.test(like)) return `sudo zypper install ${name}`;
  return `with your system's package manager, package ${name}`;
}

/** The known reasons why an unprivileged sandbox fails, each with its own remedy. */
function explain(host: Host, output: string): BureauError {
  const message = `Cannot make an unprivileged sandbox here: bwrap said ${JSON.stringify(output)}`;
  const because = (reason: string, hint: string): BureauError =>
    new BureauError("unsupported", `${message}. ${reason}`, { hint });
  if (host.sysctl("kernel/apparmor_restrict_unprivileged_userns") === "1")
    return because(
      "AppArmor restricts unprivileged user namespaces (the default since Ubuntu 23.10)",
      `let bwrap make them, once, as root:
    printf '%s\\n' 'abi <abi/4.0>,' 'include <tunables/global>' 'profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }' | sudo tee /etc/apparmor.d/bwrap
    sudo apparmor_parser -r /etc/apparmor.d/bwrap`,
    );
  if (host.sysctl("kernel/unprivileged_userns_clone") === "0")
    return because(
      "The kernel forbids unprivileged user namespaces",
      "sudo sysctl -w kernel.unprivileged_userns_clone=1 (and put it in /etc/sysctl.d/ to keep it)",
    );
  if (host.sysctl("user/max_user_namespaces") === "0")
    return because(
      "The limit of user namespaces is 0",
      "sudo sysctl -w user.max_user_namespaces=15000 (and put it in /etc/sysctl.d/ to keep it)",
    );
  return because(
    "In a container, the outer runtime often forbids it",
    "try by hand: bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev true",
  );
}
