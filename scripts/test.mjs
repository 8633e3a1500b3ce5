// `npm test`: the checks and every test that needs nothing but this machine. Ends with "N passed, N failed, N skipped".
//
//   node scripts/test.mjs [--suite synapse|lab|kernel] [--list] [PATTERN…]
//
// The suffix of a test file names what it needs: `.synapse.test.ts` a real Synapse, `.lab.test.ts` booted machines,
// `.kernel.test.ts` another kernel.
// Those have suites of their own; everything else runs here.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { root, runtimeArguments } from "./find-bun.mjs";
import {
  checkNode,
  installOptional,
  installPackages,
  installTools,
  kernelTools,
  labTools,
  stop,
} from "./install.mjs";

const suites = {
  default: (file) => !/\.(synapse|lab|kernel)\.test\.ts$/.test(file),
  synapse: (file) => file.endsWith(".synapse.test.ts"),
  lab: (file) => file.endsWith(".lab.test.ts"),
  kernel: (file) => file.endsWith(".kernel.test.ts"),
};

/** Test files at once: most of them wait most of the time. Those of Synapse and of the kernel keep a processor busy. */
const filesAtOnce = Math.min(Math.max(availableParallelism(), 2), 4);
const workers = { default: filesAtOnce, synapse: 1, lab: 2, kernel: 1 };

/** Milliseconds one test may take. Those of the lab boot machines. */
const timeouts = { default: 60_000, synapse: 60_000, lab: 600_000, kernel: 600_000 };

const args = process.argv.slice(2);
const at = args.indexOf("--suite");
const suite = at < 0 ? "default" : args.splice(at, 2)[1];
if (!(suite in suites)) stop(`there is no suite "${suite}"`, `one of ${Object.keys(suites).join(", ")}`);

if (args.includes("--list")) {
  for (const file of testFiles()) console.log(`${nameOf(file).padEnd(16)} ${sentenceOf(file)}`);
  process.exit(0);
}

checkNode();
if (suite === "lab" && process.getuid() !== 0)
  stop("the lab boots machines, which needs root", "run: sudo npm run test:lab");
const bun = installPackages();
if (suite === "kernel" && process.arch !== "x64")
  stop(`the guest is an x86-64 machine and this host is ${process.arch}`, "run it on an x86-64 host");
if (suite === "lab") installTools(labTools);
else if (suite === "kernel") installTools(kernelTools);
// The host's own Python and curl are the third-party programs that tests run in sandboxes; zstd unpacks what a deploy sends.
else
  installTools([
    ["/usr/bin/python3", "python3"],
    ["curl", "curl"],
    ["zstd", "zstd"],
  ]);
if (suite === "default")
  installOptional([
    ["ssh", "openssh-client"],
    ["/usr/sbin/sshd", "openssh-server"],
    ["keyctl", "keyutils"],
    ["scmp_sys_resolver", "seccomp"],
  ]);

const counts = { passed: 0, failed: 0, skipped: 0 };
if (suite === "default" && args.length === 0) {
  runCheck("check (format, lint, types, layers)", [bun, ...runtimeArguments, "scripts/check.ts"]);
  runCheck("build", [bun, ...runtimeArguments, "scripts/build.ts"]);
} else if (
  spawnSync(bun, [...runtimeArguments, "scripts/build.ts", "--quiet"], { cwd: root, stdio: "inherit" })
    .status !== 0
)
  process.exit(1);
// Before the suite: no test's time limit is meant for it.
if (
  suite === "synapse" &&
  spawnSync(bun, [...runtimeArguments, "scripts/install-synapse.ts"], { cwd: root, stdio: "inherit" })
    .status !== 0
)
  process.exit(1);
runTests(testFiles().filter((file) => args.length === 0 || args.some((pattern) => matches(file, pattern))));

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

/** A part of the path; for a scenario of the lab, whose paths are all alike, a part of its name. */
function matches(file, pattern) {
  return (suite === "lab" && !pattern.includes("/") ? nameOf(file) : file).includes(pattern);
}

/** `test/lab/upgrade.lab.test.ts` → `upgrade`. */
function nameOf(file) {
  return basename(file).replace(/(?:\.\w+)?\.test\.ts$/, "");
}

/** The first sentence of the comment a test file opens with. */
function sentenceOf(file) {
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(readFileSync(join(root, file), "utf8"))?.[1] ?? "";
  const text = comment.replace(/\s*\n\s*\*?\s*/g, " ").trim();
  return /^.*?\.(?=\s|$)/.exec(text)?.[0] ?? text;
}

function runTests(files) {
  if (files.length === 0) stop("no test file matches", "npm test, or a part of a test file's path");
  const scratch = mkdtempSync(join(tmpdir(), "bureau-report-"));
  const report = join(scratch, "junit.xml");
  const done = spawnSync(
    bun,
    [
      ...runtimeArguments,
      "test",
      `--timeout=${timeouts[suite]}`,
      ...(workers[suite] > 1 ? [`--parallel=${workers[suite]}`] : []),
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
