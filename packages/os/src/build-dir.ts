/** The folder of Bureau's own programs: the build that this program runs from. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { ownBuild } from "./own-build.ts";

/** `dist/`, with `bin/`, `lib/`, `runtime/` in it. @throws BureauError `unsupported` when run from anywhere else */
export function buildDir(): string {
  const dir = process.env["BUREAU_PROGRAMS_DIR"] ?? ownBuild();
  if (!existsSync(join(dir, "bin", "bureau-launcher")))
    throw new BureauError("unsupported", `Cannot find Bureau's programs beside "${Bun.main}"`, {
      hint: "run the bureau command of a checkout, or npm run build first",
    });
  return dir;
}
