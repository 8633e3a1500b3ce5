/**
 * The build this program runs from, as it was called. In a host environment made of links into the Nix store, a bundle's
 * own path leads to the one store path that holds this program, which knows nothing of the others; the path on the
 * command line (its launcher script names it whole) goes through the environment. The kernel keeps it, so nothing has to
 * be passed on in the environment, where it would leak into programs of other builds.
 */
import { realpathSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { argumentsOf } from "./process-table.ts";
import { programIn } from "./runtime-command.ts";

/** The folder with `bin/`, `lib/` and `runtime/`. `bundle` is the caller's `import.meta.dir`, which is `lib/<program>`. */
export function ownBuild(bundle: string, calledAs = programIn(argumentsOf(process.pid))): string {
  if (calledAs?.startsWith("/")) {
    const folder = dirname(calledAs);
    if (realPath(folder) === realPath(bundle)) return resolve(folder, "../..");
  }
  return resolve(bundle, "../..");
}

/** Undefined when it leads nowhere. */
export function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}
