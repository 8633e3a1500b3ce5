/** The host's package manager, for the two programs sandboxes need. */
import { BureauError } from "@bureau/kit/errors";
import type { InstallRecord } from "./install-record.ts";
import { hasProgram, mustRun, runCommand } from "./run-command.ts";

type Manager = {
  readonly program: string;
  readonly refresh?: readonly string[];
  install(name: string): readonly string[];
  remove(name: string): readonly string[];
};

const managers: readonly Manager[] = [
  {
    program: "apt-get",
    refresh: ["apt-get", "update"],
    install: (name) => ["apt-get", "install", "-y", "--no-install-recommends", name],
    remove: (name) => ["apt-get", "purge", "-y", name],
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
  const { install, refresh } = manager();
  // One that is there already and too old is not ours.
  if (!hasProgram(programOf[name] ?? name)) record.intend({ kind: "package", name });
  const first = await runCommand(install(name), options);
  if (first.code === 0) return;
  // A host that never looked does not know what there is.
  if (refresh !== undefined) await mustRun(refresh, options);
  await mustRun(install(name), options);
}

export const removePackage = async (name: string): Promise<void> =>
  void (await mustRun(manager().remove(name), options));
