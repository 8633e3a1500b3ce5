/**
 * Everything that is checked without running Bureau: style and types (Biome, tsc), the rules of CONTRIBUTING.md, the
 * packages with their sizes and arrows, and what each program's bundle is made of. Exits 1 when a rule is broken.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root as commandTree } from "../packages/cli/src/all-commands.ts";
import { checkFlagHelp } from "./check/flag-help.ts";
import { checkFolderArrows } from "./check/folder-arrows.ts";
import { functionLengths, judgeLengths } from "./check/function-lengths.ts";
import { checkCircles } from "./check/import-circles.ts";
import { checkLayoutPaths, layoutFiles, namesOf } from "./check/layout-paths.ts";
import { judgeSizes } from "./check/package-sizes.ts";
import { checkPlainSpreads } from "./check/plain-spreads.ts";
import { checkFiles, checkPackages, readTexts } from "./check/repository.ts";
import { isTestOnly, readGraph } from "./check/source-graph.ts";
import { checkTestSupport } from "./check/test-support.ts";
import { findUnusedExports, judgeTestedOnly } from "./check/unused-exports.ts";
import { readWords, wordCheck } from "./check/words.ts";
import { checkPrograms } from "./closures.ts";
import type { Violation } from "./dependency-arrows.ts";
import { checkDoctorDocs } from "./doctor-docs.ts";
import { root } from "./find-bun.mjs";
import { programs } from "./programs.ts";
import { checkRuntimeArguments } from "./runtime-starts.ts";

/** Lines of another program's complaints that are shown. */
const COMPLAINT_LINES_MAX = 60;

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

type Result = { readonly violations: readonly Violation[]; readonly lines?: readonly string[] };

/** The rules that look at the sources together: each file is read once. */
function checkSources(texts: ReadonlyMap<string, string>): [string, Result][] {
  const graph = readGraph(texts);
  const unused = findUnusedExports(graph);
  const entries = new Set(Object.values(programs));
  const words = wordCheck(
    ["ARCHITECTURE.md", "CONTRIBUTING.md"].flatMap((path) => readWords(texts.get(path) ?? "")),
  );
  const inEach = (rule: (path: string, text: string) => Violation[]): Violation[] =>
    [...texts].flatMap(([path, text]) => rule(path, text));
  const pathNames = namesOf(layoutFiles.map((path) => texts.get(path) ?? ""));
  const lengths = judgeLengths(
    [...texts].flatMap(([path, text]) =>
      path.startsWith("packages/") && !isTestOnly(path) ? functionLengths(path, text) : [],
    ),
  );
  return [
    ["arrows between folders", { violations: checkFolderArrows(graph) }],
    ["import circles", { violations: checkCircles(graph) }],
    ["unused exports", { violations: unused.lost }],
    ["exports for tests", judgeTestedOnly(unused.testedOnly)],
    ["test support", { violations: checkTestSupport(graph, entries) }],
    ["words", { violations: inEach(words) }],
    ["spreads", { violations: inEach(checkPlainSpreads) }],
    ["paths", { violations: inEach((path, text) => checkLayoutPaths(path, text, pathNames)) }],
    ["help", { violations: checkFlagHelp(commandTree, pagesOf(texts)) }],
    ["function lengths", { violations: lengths.violations, lines: [lengths.line] }],
    ["packages", judgeSizes(graph)],
  ];
}

/** The texts for people: README and docs. */
function pagesOf(texts: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...texts].filter(([path]) => path === "README.md" || /^docs\/.*\.md$/u.test(path)));
}

async function main(): Promise<number> {
  const files = repositoryFiles();
  const tools: [string, Promise<Violation[]>][] = [
    ["style (biome)", runTool("biome", "check", "--reporter=summary", ".")],
    ["types (tsc)", runTool("tsc", "-p", ".")],
  ];
  const texts = readTexts(root, files);
  const results: [string, Result][] = [
    ["dependency arrows", { violations: checkPackages(texts) }],
    ["hygiene", { violations: checkFiles(root, texts) }],
    [
      "starts of the runtime",
      { violations: checkRuntimeArguments(readFileSync(join(root, "bureau"), "utf8")) },
    ],
    ["docs (table of checks)", { violations: checkDoctorDocs() }],
    ...checkSources(texts),
    ["closures (minified kB/modules a package)", await checkPrograms(root, programs)],
  ];
  for (const [name, violations] of tools) results.unshift([name, { violations: await violations }]);
  for (const [name, { violations, lines = [] }] of results) {
    console.log(`${violations.length === 0 ? "ok  " : "FAIL"} ${name}`);
    for (const line of [...violations, ...lines]) console.log(`     ${line.replaceAll("\n", "\n     ")}`);
  }
  return results.every(([, { violations }]) => violations.length === 0) ? 0 : 1;
}

if (import.meta.main) process.exit(await main());
