/** Third-party programs that tests use: installed once from their registries into the tests' cache, for every later run. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitForFileLock } from "@bureau/os/file-lock";
import { testCache } from "./test-cache.ts";

/** Pip downloads and unpacks some 60 MB for Synapse. */
const INSTALL_MS_MAX = 10 * 60_000;

/** A folder of the tests' cache, once `install` has succeeded on it; one process at a time. */
export async function installOnce(name: string, install: (folder: string) => Promise<void>): Promise<string> {
  const folder = testCache(name);
  const mark = join(folder, "installed");
  mkdirSync(folder, { recursive: true });
  using lock = await waitForFileLock(`${folder}.lock`, INSTALL_MS_MAX, systemClock);
  if (lock === undefined) throw new BureauError("timeout", `Another process is still installing "${folder}"`);
  if (!existsSync(mark)) {
    await install(folder);
    writeFileSync(mark, "");
  }
  return folder;
}

/** Runs a package manager to its end. @throws BureauError `failed` with the end of what it printed */
export async function runInstaller(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe", timeout: INSTALL_MS_MAX });
  const output = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) {
    throw new BureauError(
      "failed",
      `Cannot install for tests: ${command.join(" ")}: ${output.slice(-2_000)}`,
      {
        hint: "it needs npm, python3 with venv, and package indexes that npm and pip can reach",
      },
    );
  }
}
