// Finds the pinned Bun in node_modules, also when npm ran no install scripts.
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Node cannot read the original, `packages/os/src/runtime-command.ts`; `npm run check` compares the two. */
export const runtimeArguments = ["--config=/dev/null", "--no-env-file", "--tsconfig-override=/dev/null"];

/** The path of the Bun executable, or undefined when dependencies are not installed. */
export function findBun() {
  const platforms = join(root, "node_modules", "@oven");
  if (!existsSync(platforms)) return undefined;
  return readdirSync(platforms)
    .map((name) => join(platforms, name, "bin", "bun"))
    .find((path) => existsSync(path));
}
