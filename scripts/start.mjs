// `npm start`: installs what is missing, then starts a Bureau on this machine. Arguments go to `bureau up`.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./find-bun.mjs";
import { checkNode, installPackages, installTools } from "./install.mjs";

checkNode();
installPackages({ development: false });
installTools();
const done = spawnSync(join(root, "bureau"), ["up", ...process.argv.slice(2)], { stdio: "inherit" });
process.exit(done.status ?? 1);
