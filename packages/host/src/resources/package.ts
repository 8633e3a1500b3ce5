/** A package of the host's distribution: the programs that sandboxes need. */
import { BureauError } from "@bureau/kit/errors";
import type { Ran } from "@bureau/os/run-to-end";
import * as v from "valibot";
import { hasProgram, mustRun, runCommand } from "../system/run-command.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("package"), name: v.string(), at }), {
  rank: 140,
  idOf: ({ name }) => name,
  describe: ({ name }) => `package ${name}`,
  whyStays: (_, { options }) =>
    options.removePackages
      ? undefined
      : { reason: "asked", why: "others may use it; --remove-packages removes it" },
  takeBack: ({ name }) => removePackage(name),
});

const action = defineAction(v.object({ kind: v.literal("package"), name: v.string() }), {
  rank: 10,
  attemptsMax: 1,
  describe: ({ name }) => `install the package ${name}`,
  record({ name }, { record }) {
    // A package that is there and too old is not ours.
    if (!hasProgram(programOf[name] ?? name)) record.intend(entry, { name });
  },
  apply: ({ name }) => installPackage(name),
});

export const packageResource = { action, entry };

type Manager = {
  readonly program: string;
  readonly refresh?: readonly string[];
  /** Ends an installation that was cut off; `when` is what the manager prints until then. */
  readonly repair?: { readonly when: RegExp; readonly command: readonly string[] };
  install(name: string): readonly string[];
  remove(name: string): readonly string[];
};

/** Waits for another installation: a host often runs one by itself after boot. */
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

/** The program of a package, where the names differ. */
const programOf: Readonly<Record<string, string>> = { bubblewrap: "bwrap" };

/** Mirrors may be slow. */
const PACKAGE_MS_MAX = 600_000;
const options = { timeoutMs: PACKAGE_MS_MAX, env: { DEBIAN_FRONTEND: "noninteractive" } };

function manager(): Manager {
  const found = managers.find(({ program }) => hasProgram(program));
  if (found !== undefined) return found;
  const known = managers.map(({ program }) => program).join(", ");
  throw new BureauError("unsupported", `Cannot install packages: this host has none of ${known}`, {
    hint: "install bubblewrap and tmux by hand",
  });
}

async function installPackage(name: string): Promise<void> {
  const { install, refresh, ...packages } = manager();
  const first = await runRepaired(packages, install(name));
  if (first.code === 0) return;
  // A new host has no package lists yet.
  if (refresh !== undefined) await mustRun(refresh, options);
  await mustRun(install(name), options);
}

async function removePackage(name: string): Promise<void> {
  const { remove, ...packages } = manager();
  if ((await runRepaired(packages, remove(name))).code !== 0) await mustRun(remove(name), options);
}

async function runRepaired({ repair }: Pick<Manager, "repair">, command: readonly string[]): Promise<Ran> {
  const first = await runCommand(command, options);
  if (first.code === 0 || repair?.when.test(first.stderr) !== true) return first;
  await mustRun(repair.command, options);
  return await runCommand(command, options);
}
