// Runs a TypeScript script of this repository with the pinned Bun: node scripts/run.mjs SCRIPT ARGS…
import { spawnSync } from "node:child_process";
import { checkNode, installPackages } from "./install.mjs";

checkNode();
const bun = installPackages();
const done = spawnSync(bun, process.argv.slice(2), { stdio: "inherit" });
process.exit(done.status ?? 1);
