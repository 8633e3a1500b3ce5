// `npm test`: the checks and every test that needs nothing but this machine. Ends with "N passed, N failed, N skipped".
//
//   node scripts/test.mjs [--suite synapse] [PATTERN…]
//
// The suffix of a test file names what it needs: `.synapse.test.ts` a real Synapse, `.lab.test.ts` booted machines.
// Those have suites of their own; everything else runs here.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { root } from "./find-bun.mjs";
import { checkNode, installPackages, installTools, stop } from "./install.mjs";

const suites = {
  default: (file) => !/\.(synapse|lab)\.test\.ts$/.test(file),
  synapse: (file) => file.endsWith(".synapse.test.ts"),
  lab: (file) => file.endsWith(".lab.test.ts"),
};

const args = process.argv.slice(2);
const at = args.indexOf("--suite");
const suite = at < 0 ? "default" : args.splice(at, 2)[1];
if (!(suite in suites)) stop(`there is no suite "${suite}"`, `one of ${Object.keys(suites).join(", ")}`);

checkNode();
const bun = installPackages();
// The host's own Python is the third-party program that tests run in sandboxes.
installTools([["/usr/bin/python3", "python3"]]);

const counts = { passed: 0, failed: 0, skipped: 0 };
if (suite === "default" && args.length === 0) {
  runCheck("check (format, lint, types, layers)", [bun, "scripts/check.ts"]);
  runCheck("build", [bun, "scripts/build.ts"]);
} else if (spawnSync(bun, ["scripts/build.ts", "--quiet"], { cwd: root, stdio: "inherit" }).status !== 0)
  process.exit(1);
runTests(testFiles().filter((file) => args.length === 0 || args.some((pattern) => file.includes(pattern))));

const { passed, failed, skipped } = counts;
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);

/** A check counts as one test. */
function runCheck(name, [program, ...rest]) {
  console.log(`\n${name}`);
  const done = spawnSync(program, rest, { cwd: root, stdio: "inherit" });
  if (done.status === 0) counts.passed++;
  else counts.failed++;
}

function testFiles() {
  const found = [];
  const walk = (dir) => {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name);
      if (entry.isDirectory() && entry.name !== "node_modules") walk(path);
      else if (entry.name.endsWith(".test.ts") && suites[suite](entry.name)) found.push(relative(root, path));
    }
  };
  for (const dir of ["packages", "test", "scripts"]) walk(join(root, dir));
  return found.sort();
}

function runTests(files) {
  if (files.length === 0) stop("no test file matches", "npm test, or a part of a test file's path");
  const scratch = mkdtempSync(join(tmpdir(), "bureau-report-"));
  const report = join(scratch, "junit.xml");
  const done = spawnSync(
    bun,
    [
      "test",
      "--timeout=60000",
      "--reporter=junit",
      `--reporter-outfile=${report}`,
      ...files.map((file) => `./${file}`),
    ],
    { cwd: root, stdio: "inherit" },
  );
  try {
    const head = /<testsuites[^>]*>/.exec(readFileSync(report, "utf8"))?.[0] ?? "";
    const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
    const bad = number("failures") + number("errors");
    counts.failed += bad;
    counts.skipped += number("skipped");
    counts.passed += number("tests") - bad - number("skipped");
    // A crash of the runner itself, or a file that did not load, is a failure that no test case stands for.
    if (done.status !== 0 && bad === 0) counts.failed++;
  } catch {
    counts.failed++;
  }
  rmSync(scratch, { recursive: true, force: true });
}
