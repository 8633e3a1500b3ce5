/** Whether a host can become a machine: all problems at once, each with its remedy. Pure. */
import { systemHost } from "@bureau/os/layout";
import type { MachineLocalpart } from "@bureau/schema/refs";
import type { HostFacts } from "./host-check.ts";

export type Problem = { readonly what: string; readonly remedy: string };

/**
 * The newest symbol version that the shipped runtime asks of glibc (`objdump -T runtime/bun`: GLIBC_2.17, which is also
 * where glibc for arm64 begins).
 */
const GLIBC_LEAST = [2, 17] as const;
/** The first with `LoadCredentialEncrypted=`, which guards the machine's key. */
const SYSTEMD_LEAST = 250;
/** Beside the programs: keys, logs, a first workspace. */
const SPARE_BYTES = 100 << 20;
/** Files beside the programs, which are few: states, logs, what a first workspace holds. */
const INODES_LEAST = 5_000;
/** Copies of the programs while they arrive: packed, unpacked, and where doctor puts them. */
const COPIES = 3;

/** `uname -m` of the architectures that the runtime exists for, with the names its packages have. */
export const architectures: Readonly<Record<string, string>> = { x86_64: "x64", aarch64: "aarch64" };

export type Wanted = {
  readonly homeserver: string;
  readonly machine: MachineLocalpart;
  /** Bytes of the unpacked build; 0 when none has to be sent. */
  readonly buildBytes: number;
  /** Architectures with a build here, as `uname -m` names them. */
  readonly builds: readonly string[];
  /** A person can be asked for sudo's password. */
  readonly interactive: boolean;
};

export function hostProblems(facts: HostFacts, wanted: Wanted): Problem[] {
  return [
    ...platformProblems(facts, wanted),
    ...systemdProblems(facts),
    ...privilegeProblems(facts, wanted),
    ...spaceProblems(facts, wanted),
    ...programProblems(facts),
    ...homeserverProblems(facts, wanted),
    ...installationProblems(facts, wanted),
  ];
}

function platformProblems(facts: HostFacts, wanted: Wanted): Problem[] {
  if (facts.KERNEL !== "Linux")
    return [{ what: `it runs ${facts.KERNEL}, not Linux`, remedy: "choose a Linux host" }];
  const found: Problem[] = [];
  const arch = architectures[facts.ARCH];
  if (arch === undefined)
    found.push({
      what: `its architecture is ${facts.ARCH}`,
      remedy: `Bureau runs on ${Object.keys(architectures).join(" and ")}`,
    });
  else if (!wanted.builds.includes(facts.ARCH))
    found.push({
      what: `it is ${facts.ARCH}, and the runtime for that is not installed here`,
      remedy: `install it beside this one, then deploy again: npm install --no-save --force @oven/bun-linux-${arch}@${Bun.version}`,
    });
  const libc = glibcProblem(facts.LIBC);
  return libc === undefined ? found : [...found, libc];
}

function glibcProblem(libc: string): Problem | undefined {
  const least = GLIBC_LEAST.join(".");
  if (libc === "musl")
    return { what: "its C library is musl", remedy: `choose a host with glibc ${least} or newer` };
  const version = /^glibc (\d+)\.(\d+)/u.exec(libc);
  if (version === null)
    return { what: "its C library is not known", remedy: `choose a host with glibc ${least} or newer` };
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major > GLIBC_LEAST[0] || (major === GLIBC_LEAST[0] && minor >= GLIBC_LEAST[1])) return undefined;
  return {
    what: `its C library is ${libc}`,
    remedy: `upgrade the system: glibc ${least} or newer is needed`,
  };
}

function systemdProblems({ SYSTEMD, SYSTEMD_RUNS }: HostFacts): Problem[] {
  if (SYSTEMD === undefined)
    return [
      {
        what: "it has no systemd",
        remedy: `choose a host that boots with systemd ${SYSTEMD_LEAST} or newer`,
      },
    ];
  if (SYSTEMD_RUNS !== "yes")
    return [{ what: "systemd is installed and does not run", remedy: "boot it with systemd as process 1" }];
  if (SYSTEMD < SYSTEMD_LEAST)
    return [
      {
        what: `its systemd is ${SYSTEMD}`,
        remedy: `upgrade the system: systemd ${SYSTEMD_LEAST} or newer is needed`,
      },
    ];
  return [];
}

function privilegeProblems({ PRIVILEGE, USER }: HostFacts, wanted: Wanted): Problem[] {
  if (PRIVILEGE === "none")
    return [{ what: `"${USER}" is not root there, and there is no sudo`, remedy: "deploy to ssh://root@…" }];
  if (PRIVILEGE === "sudo-password" && !wanted.interactive)
    return [
      {
        what: `sudo asks "${USER}" for a password there, and this command has no terminal to ask for it`,
        remedy: `run this in a terminal, deploy to ssh://root@…, or allow it: ${USER} ALL=(ALL) NOPASSWD: ALL in /etc/sudoers.d`,
      },
    ];
  return [];
}

function spaceProblems({ VAR_FREE_KB, VAR_FREE_INODES, STAGING }: HostFacts, wanted: Wanted): Problem[] {
  const found: Problem[] = [];
  const needed = wanted.buildBytes * COPIES + SPARE_BYTES;
  if (VAR_FREE_KB === undefined)
    found.push({
      what: "the free space in /var is unknown",
      remedy: "check the output of df -Pk /var there",
    });
  else if (VAR_FREE_KB * 1024 < needed)
    found.push({
      what: `only ${Math.floor(VAR_FREE_KB / 1024)} MB are free in /var`,
      remedy: `make room: ${Math.ceil(needed / (1 << 20))} MB are needed`,
    });
  if (VAR_FREE_INODES !== undefined && VAR_FREE_INODES < INODES_LEAST)
    found.push({
      what: `only ${VAR_FREE_INODES} inodes are free in /var`,
      remedy: `remove files: ${INODES_LEAST} are needed (du -x --inodes --max-depth=2 /var | sort -n | tail)`,
    });
  if (STAGING === "" && wanted.buildBytes > 0)
    found.push({
      what: "programs cannot run from /var/tmp, nor from the home folder",
      remedy: "mount one of them without noexec, or deploy as root",
    });
  return found;
}

function programProblems({ has }: HostFacts): Problem[] {
  const missing = ["tar", "gzip", "sha256sum"].filter((program) => !has.includes(program));
  if (missing.length === 0) return [];
  return [
    { what: `it has no ${missing.join(", ")}`, remedy: "install them with the host's package manager" },
  ];
}

function homeserverProblems({ HOMESERVER, HOMESERVER_ERROR }: HostFacts, wanted: Wanted): Problem[] {
  if (HOMESERVER !== "unreachable") return [];
  const said = HOMESERVER_ERROR.trim();
  return [
    {
      what: `it does not reach the homeserver ${wanted.homeserver}${said === "" ? "" : ` (${said})`}`,
      remedy:
        "check name, firewall and certificate from there, or pass an address that it reaches with --homeserver",
    },
  ];
}

function installationProblems({ conf }: HostFacts, wanted: Wanted): Problem[] {
  const installed = conf.get("BUREAU_MACHINE_NAME");
  if (installed === undefined || installed === wanted.machine) return [];
  return [
    {
      what: `it has joined a fleet already: ${systemHost.machineConf} says "${installed}"`,
      remedy: `deploy it under that name (--machine-name ${installed}), or remove it first: bureau machine decommission ${installed}`,
    },
  ];
}
