// Runs a TypeScript script of this repository with the pinned Bun: node scripts/run.mjs SCRIPT ARGS…
import { spawnSync } from "node:child_process";
import { root, runtimeArguments } from "./find-bun.mjs";
import { checkNode, installPackages } from "./install.mjs";

checkNode();
const bun = installPackages();
const done = spawnSync(bun, [...runtimeArguments, ...process.argv.slice(2)], {
  // As npm does: the bundler obeys the tsconfig.json of the folder it is called in.
  cwd: root,
  stdio: "inherit",
});
process.exit(done.status ?? 1);
