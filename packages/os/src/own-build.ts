/**
 * The build this program runs from, as it was called. In a build made of links into the Nix store, a bundle's own path
 * leads to the store path of this one program, which has no link to the others. The path on the command line, which the
 * start script of the program writes in full, goes through the build. The kernel keeps it, so no environment variable
 * is needed, which would leak into programs of other builds.
 */
import { realpathSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { argumentsOf } from "./process-table.ts";
import { programIn } from "./runtime-command.ts";

/** The folder with `bin/`, `lib/` and `runtime/`. `bundle` is the folder of the program that runs, `lib/<program>`. */
export function ownBuild(bundle = dirname(Bun.main), calledAs = programIn(argumentsOf(process.pid))): string {
  if (calledAs?.startsWith("/")) {
    const folder = dirname(calledAs);
    if (realPath(folder) === realPath(bundle)) return resolve(folder, "../..");
  }
  return resolve(bundle, "../..");
}

/** Undefined when the path does not exist. */
export function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}
