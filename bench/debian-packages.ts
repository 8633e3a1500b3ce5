/** Programs that benchmarks compare with, from Debian's archive. What cannot be compared is always printed, with the reason. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** Prints, also beside `--json`, that a comparison is missing. */
export const notCompared = (peer: string, reason: string): void =>
  console.error(`NOT compared with ${peer}: ${reason}`);

const searchPath = `${process.env["PATH"] ?? ""}:/usr/sbin:/usr/local/sbin`;

/** The absolute path of an installed program. */
export const findProgram = (name: string): string | undefined =>
  Bun.which(name, { PATH: searchPath }) ?? undefined;

/** Installs what of `programs` is missing. @returns why a program is still missing; undefined when none is */
export function installPrograms(programs: Readonly<Record<string, string>>): string | undefined {
  const missing = () => Object.entries(programs).filter(([name]) => findProgram(name) === undefined);
  const wanted = missing();
  if (wanted.length === 0) return undefined;
  const names = wanted.map(([name]) => `"${name}"`).join(", ");
  if (findProgram("apt-get") === undefined) return `${names} is not installed, and there is no apt`;
  if (process.getuid?.() !== 0) return `${names} is not installed, and apt installs only as root`;
  const packages = [...new Set(wanted.map(([, from]) => from))];
  const install = ["install", "-y", "-q", "--no-install-recommends", ...packages];
  const installed = runApt(install, "/") || (runApt(["update", "-q"], "/") && runApt(install, "/"));
  return installed && missing().length === 0 ? undefined : `apt cannot install ${packages.join(", ")}`;
}

/**
 * Unpacks a package without installing it: its services do not start, and nothing of it stays. Needs no root.
 * @returns the folder with its files, or undefined when apt cannot download it
 */
export function unpackPackage(name: string, into: string): string | undefined {
  if (findProgram("apt-get") === undefined || findProgram("dpkg-deb") === undefined) return undefined;
  mkdirSync(into);
  if (!runApt(["download", "-q", name], into)) return undefined;
  const [archive] = [...new Bun.Glob("*.deb").scanSync(into)];
  const root = join(into, "root");
  const unpacked =
    archive !== undefined && Bun.spawnSync(["dpkg-deb", "-x", join(into, archive), root]).success;
  return unpacked ? root : undefined;
}

const runApt = (args: readonly string[], cwd: string): boolean =>
  Bun.spawnSync(["apt-get", ...args], {
    cwd,
    env: { PATH: searchPath, DEBIAN_FRONTEND: "noninteractive" },
    stdout: "ignore",
    stderr: "ignore",
  }).success;
