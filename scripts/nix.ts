/**
 * What the build asks of Nix, where there is one: a host environment in its store, and that the flake in the checkout
 * sees the newest build. Nothing here needs nixpkgs or a network.
 *
 * A flake of a Git checkout sees tracked files only, and the build is none. So `nix/build.nix` is tracked, holds a few
 * store paths after a build, and a clean filter gives Git the committed text back whenever it looks: to Git the file
 * never changes. docs/decisions/0024-a-flake-sees-the-build.md says why it is done so.
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

/** Makes the host environment of the build in `folder`; `link` becomes a link to it that keeps it from collection. */
export function buildWithNix(folder: string, link: string): string {
  rmSync(link, { force: true });
  const options = ["-A", "environment", "--argstr", "build", folder, "--out-link", link];
  return output(["nix-build", hostEnvExpression, ...options]);
}

/** Makes `link` a link to a store path, which keeps the path and all it refers to. */
export function keepPath(path: string, link: string): void {
  output(["nix-store", "--realise", path, "--add-root", link]);
}

/** The path and everything it refers to, with the size of each as it is moved. */
export function closureSizes(path: string): Map<string, number> {
  const paths = output(["nix-store", "--query", "--requisites", path]).split("\n");
  const sizes = output(["nix-store", "--query", "--size", ...paths]).split("\n");
  return new Map(paths.map((name, index) => [name, Number(sizes[index])]));
}

type Told = { readonly parts: readonly string[]; readonly path: string };

/**
 * Adds the parts of the build to the store and tells the flake which they are. Returns a line to show; a failure is one
 * too, since the build itself is there.
 */
export function showBuildToNix(build: string): string {
  try {
    const how = [
      "--eval",
      "--strict",
      "--json",
      "--read-write-mode",
      "-A",
      "told",
      "--argstr",
      "build",
      build,
    ];
    const told = JSON.parse(output(["nix-instantiate", hostEnvExpression, ...how])) as Told;
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
  // Nothing is touched when nothing changed, and what Git was told last time still holds.
  if (readFileSync(file, "utf8") !== text) {
    writeFileSync(file, text);
    if (Bun.spawnSync(["git", "rev-parse", "--git-dir"], { cwd: root }).success) {
      output(["git", "config", "--local", FILTER, "git cat-file blob HEAD:%f"]);
      // Changes nothing that would be committed: Git notes that it has seen the file as it is now.
      output(["git", "add", flakeFile]);
    }
  }
  if (evaluated() === path) return;
  // Nix remembers this commit from when the build was another, or none. A file that Git takes for changed, if only in its
  // length, is read anew.
  writeFileSync(file, `${text}# Seen as changed until the next commit.\n`);
}

/** Where the flake says its environment will be; undefined when it does not know. */
function evaluated(): string | undefined {
  const attribute = `${root}#packages.${system}.bureau-host-env.outPath`;
  const done = Bun.spawnSync(["nix", ...flakeFeatures, "eval", "--raw", attribute], { stderr: "ignore" });
  return done.success ? done.stdout.toString().trim() : undefined;
}

/** Runs a program, whose progress goes to standard error; returns what it printed. @throws when it fails */
function output(argv: string[]): string {
  const done = Bun.spawnSync(argv, { cwd: root, stdin: "ignore", stderr: "pipe" });
  if (done.success) return done.stdout.toString().trim();
  throw new Error(`${argv.slice(0, 2).join(" ")} failed: ${done.stderr.toString().trim()}`);
}
