/**
 * Everything that is checked without running Bureau: style and types (Biome, tsc), the arrows between packages, what
 * no file may hold, and what each program's bundle is made of. Exits 1 when anything is not as it must be.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkPrograms } from "./closures.ts";
import { checkArrows, checkDeclared, type Violation } from "./dependency-arrows.ts";
import { checkDoctorDocs } from "./doctor-docs.ts";
import { root } from "./find-bun.mjs";
import { checkHygiene } from "./hygiene.ts";
import { programs } from "./programs.ts";
import { checkRuntimeArguments, checkRuntimeStarts } from "./runtime-starts.ts";

/** Lines of another program's complaints that are shown. */
const COMPLAINT_LINES_MAX = 60;

/** Checks every package below `at` for its arrows. */
export function checkPackages(at: string, files: readonly string[]): Violation[] {
  const folder = join(at, "packages");
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => {
    const manifest = join(folder, name, "package.json");
    if (!existsSync(manifest)) return [];
    const { dependencies = {} } = JSON.parse(readFileSync(manifest, "utf8")) as {
      dependencies?: Record<string, string>;
    };
    const declared = new Set(Object.keys(dependencies));
    const sources = files.filter(
      (path) =>
        path.startsWith(`packages/${name}/`) &&
        /\.tsx?$/u.test(path) &&
        !/\.test\.tsx?$|\/testing\//u.test(path),
    );
    return [
      ...checkDeclared(name, declared),
      ...sources.flatMap((path) =>
        checkArrows({ path, text: readFileSync(join(at, path), "utf8"), declared }),
      ),
    ];
  });
}

/** Checks every text file among `files` for what none may hold. */
export function checkFiles(at: string, files: readonly string[]): Violation[] {
  return files.flatMap((path) => {
    const bytes = readFileSync(join(at, path));
    if (bytes.includes(0)) return [];
    const text = bytes.toString("utf8");
    return [...checkHygiene(path, text, at), ...checkRuntimeStarts(path, text)];
  });
}

/** The files of the repository, new ones included, those Git ignores not. */
function repositoryFiles(): string[] {
  const git = Bun.spawnSync(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
  });
  if (!git.success) throw new Error(`cannot list files: ${git.stderr.toString().trim()}`);
  const paths = git.stdout.toString().split("\0");
  return paths.filter((path) => path !== "" && existsSync(join(root, path)));
}

/** Runs a checker of node_modules; its output is the violation when it is not content. */
async function runTool(name: string, ...args: string[]): Promise<Violation[]> {
  const child = Bun.spawn([join(root, "node_modules", ".bin", name), ...args], {
    cwd: root,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [code, out, err] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  if (code === 0) return [];
  const lines = `${out}${err}`.trimEnd().split("\n");
  const shown = lines.slice(0, COMPLAINT_LINES_MAX).join("\n");
  const more =
    lines.length > COMPLAINT_LINES_MAX ? `\n… ${lines.length - COMPLAINT_LINES_MAX} more lines` : "";
  return [`${name} ${args.join(" ")} exited with ${code}:\n${shown}${more}`];
}

async function main(): Promise<number> {
  const files = repositoryFiles();
  const checks: [string, Promise<Violation[]> | Violation[]][] = [
    ["style (biome)", runTool("biome", "check", "--reporter=summary", ".")],
    ["types (tsc)", runTool("tsc", "-p", ".")],
    ["dependency arrows", checkPackages(root, files)],
    ["hygiene", checkFiles(root, files)],
    ["starts of the runtime", checkRuntimeArguments(readFileSync(join(root, "bureau"), "utf8"))],
    ["docs (table of checks)", checkDoctorDocs()],
  ];
  let failures = 0;
  const report = (name: string, violations: readonly Violation[]): void => {
    failures += violations.length;
    console.log(`${violations.length === 0 ? "ok  " : "FAIL"} ${name}`);
    for (const violation of violations) console.log(`     ${violation.replaceAll("\n", "\n     ")}`);
  };
  for (const [name, violations] of checks) report(name, await violations);
  const { lines, violations } = await checkPrograms(root, programs);
  report("closures (minified kB/modules a package)", violations);
  for (const line of lines) console.log(`     ${line}`);
  return failures === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main());
