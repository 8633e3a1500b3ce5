/**
 * What the build does with Nix, where it is installed: it adds a build to the store, and lets the flake in the checkout
 * see the newest build. Nothing here needs nixpkgs or a network.
 *
 * A flake of a Git checkout sees tracked files only, and a build is not tracked. So `nix/build.nix` is tracked and holds a
 * few store paths after a build; a clean filter gives Git the committed text, so that Git never sees a change.
 * docs/decisions/0024-a-flake-sees-the-build.md gives the reasons.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./find-bun.mjs";

const hostEnvExpression = join(root, "nix", "host-env.nix");
const flakeFile = join("nix", "build.nix");
const FILTER = "filter.bureau-build.clean";
/** Nix's name for this system. */
const system = `${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux`;
const flakeFeatures = ["--extra-experimental-features", "nix-command flakes"];

export const hasNix = (): boolean => Bun.which("nix-build") !== null;

/** Adds the build in `folder` to the store; `link` becomes a link to it that keeps it from garbage collection. */
export function buildWithNix(folder: string, link: string): string {
  rmSync(link, { force: true });
  const options = ["-A", "environment", "--argstr", "build", folder, "--out-link", link];
  return output(["nix-build", hostEnvExpression, ...options]);
}

/** Makes `link` a link to a store path, which keeps the path and all its references. */
export function keepPath(path: string, link: string): void {
  output(["nix-store", "--realise", path, "--add-root", link]);
}

/** The path and all its references, each with its size in transfer. */
export function closureSizes(path: string): Map<string, number> {
  const paths = output(["nix-store", "--query", "--requisites", path]).split("\n");
  const sizes = output(["nix-store", "--query", "--size", ...paths]).split("\n");
  return new Map(paths.map((name, index) => [name, Number(sizes[index])]));
}

type Told = { readonly parts: readonly string[]; readonly path: string };

/**
 * Adds the parts of the build to the store and writes their paths for the flake. Returns a line to print, also for a
 * failure: the build itself is complete.
 */
export function showBuildToNix(build: string): string {
  try {
    const options = ["--eval", "--strict", "--json", "--read-write-mode", "-A", "told"];
    const argv = ["nix-instantiate", hostEnvExpression, ...options, "--argstr", "build", build];
    const told = JSON.parse(output(argv)) as Told;
    writeFlakeFile(told);
    return "nix build .#bureau-host-env makes a store path of it";
  } catch (error) {
    return `nix build .#bureau-host-env will not see it: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function writeFlakeFile({ parts, path }: Told): void {
  const lines = parts.map((part) => `    "${part}"\n`).join("");
  const text = `# Written by npm run build; Git does not see it.\n{\n  ${system} = [\n${lines}  ];\n}\n`;
  const file = join(root, flakeFile);
  // An unchanged file is not written: Git has already been told about it.
  if (readFileSync(file, "utf8") !== text) {
    writeFileSync(file, text);
    if (Bun.spawnSync(["git", "rev-parse", "--git-dir"], { cwd: root }).success) {
      output(["git", "config", "--local", FILTER, "git cat-file blob HEAD:%f"]);
      // The index does not change: Git records that it has seen this file as it is.
      output(["git", "add", flakeFile]);
    }
  }
  if (evaluated() === path) return;
  // Nix has cached this commit with an earlier build, or none. It reads a file again that Git considers changed, even if
  // only in its length.
  writeFileSync(file, `${text}# Seen as changed until the next commit.\n`);
}

/** The store path that the flake evaluates to; undefined when it cannot be evaluated. */
function evaluated(): string | undefined {
  const attribute = `${root}#packages.${system}.bureau-host-env.outPath`;
  const done = Bun.spawnSync(["nix", ...flakeFeatures, "eval", "--raw", attribute], { stderr: "ignore" });
  return done.success ? done.stdout.toString().trim() : undefined;
}

/** Runs a program with its progress on standard error; returns its output. @throws when it fails */
function output(argv: string[]): string {
  const done = Bun.spawnSync(argv, { cwd: root, stdin: "ignore", stderr: "pipe" });
  if (done.success) return done.stdout.toString().trim();
  throw new Error(`${argv.slice(0, 2).join(" ")} failed: ${done.stderr.toString().trim()}`);
}
