/** The host's package manager, for the two programs sandboxes need. */
import { BureauError } from "@bureau/kit/errors";
import type { Ran } from "@bureau/os/run-to-end";
import type { InstallRecord } from "../record/install-record.ts";
import { hasProgram, mustRun, runCommand } from "../system/run-command.ts";

type Manager = {
  readonly program: string;
  readonly refresh?: readonly string[];
  /** What ends an installation that was cut off, and what is said as long as there is one. */
  readonly repair?: { readonly when: RegExp; readonly command: readonly string[] };
  install(name: string): readonly string[];
  remove(name: string): readonly string[];
};

/** Somebody else who installs just then, as a host does by itself after its start, is waited for. */
const aptGet = ["apt-get", "-o", "DPkg::Lock::Timeout=120"];

const managers: readonly Manager[] = [
  {
    program: "apt-get",
    refresh: [...aptGet, "update"],
    repair: { when: /dpkg was interrupted/, command: ["dpkg", "--configure", "-a"] },
    install: (name) => [...aptGet, "install", "-y", "--no-install-recommends", name],
    remove: (name) => [...aptGet, "purge", "-y", name],
  },
  {
    program: "dnf",
    install: (name) => ["dnf", "install", "-y", name],
    remove: (name) => ["dnf", "remove", "-y", name],
  },
  {
    program: "pacman",
    install: (name) => ["pacman", "-S", "--noconfirm", name],
    remove: (name) => ["pacman", "-R", "--noconfirm", name],
  },
  {
    program: "zypper",
    install: (name) => ["zypper", "--non-interactive", "install", name],
    remove: (name) => ["zypper", "--non-interactive", "remove", name],
  },
];

/** What a package brings. */
const programOf: Readonly<Record<string, string>> = { bubblewrap: "bwrap", tmux: "tmux" };

/** Mirrors may be slow. */
const PACKAGE_MS_MAX = 600_000;
const options = { timeoutMs: PACKAGE_MS_MAX, env: { DEBIAN_FRONTEND: "noninteractive" } };

function manager(): Manager {
  const found = managers.find(({ program }) => hasProgram(program));
  if (found === undefined)
    throw new BureauError(
      "unsupported",
      "Cannot install packages: this host has none of the package managers we know",
      {
        hint: "install bubblewrap and tmux by hand",
      },
    );
  return found;
}

export async function installPackage(record: InstallRecord, name: string): Promise<void> {
  const { install, refresh, ...packages } = manager();
  // One that is there already and too old is not ours.
  if (!hasProgram(programOf[name] ?? name)) record.intend({ kind: "package", name });
  const first = await runRepaired(packages, install(name));
  if (first.code === 0) return;
  // A host that never looked does not know what there is.
  if (refresh !== undefined) await mustRun(refresh, options);
  await mustRun(install(name), options);
}

export async function removePackage(name: string): Promise<void> {
  const { remove, ...packages } = manager();
  if ((await runRepaired(packages, remove(name))).code !== 0) await mustRun(remove(name), options);
}

async function runRepaired({ repair }: Pick<Manager, "repair">, command: readonly string[]): Promise<Ran> {
  const first = await runCommand(command, options);
  if (first.code === 0 || repair?.when.test(first.stderr) !== true) return first;
  await mustRun(repair.command, options);
  return await runCommand(command, options);
}
