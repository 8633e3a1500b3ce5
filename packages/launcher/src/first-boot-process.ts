/**
 * Runs first boot, a separate program that joins the fleet: it uses HTTP, and the launcher must not. It runs with the
 * launcher's user, credentials and standard input, and exits before the launcher opens the key.
 * The launcher keeps the lock of the state folder and shares it, so that no other launcher can start in between.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { FileLock } from "@bureau/os/file-lock";
import { type Layout, machineSessionFile } from "@bureau/os/layout";
import { exitCodes } from "@bureau/os/lifecycle";
import { machineArguments } from "@bureau/os/machine-flags";
import { LOCK_FD } from "./instance-lock.ts";
import { joinArguments } from "./join-flags.ts";
import type { LauncherConfig } from "./launcher-config.ts";

/** True after the machine has joined its fleet: first boot writes the session file last. */
export const hasBooted = (layout: Layout): boolean => existsSync(machineSessionFile(layout));

/** True for a machine that has not joined, and for one with a bootstrap file beside its session. */
export const needsFirstBoot = ({ layout, bootstrapFile }: LauncherConfig): boolean =>
  !hasBooted(layout) || (bootstrapFile !== undefined && bootstrapFile !== "-" && existsSync(bootstrapFile));

/** The first descriptor after standard input, output and error. */
const SHARED_LOCK_FD = 3;

/** Runs first boot to its end; stops it when `signal` aborts. Returns its exit code. First boot logs its errors. */
export async function runFirstBoot(
  config: LauncherConfig,
  lock: FileLock,
  signal: AbortSignal,
): Promise<number> {
  const program = join(config.buildDir, "bin", "bureau-first-boot");
  let child: Bun.Subprocess;
  try {
    child = Bun.spawn([program, ...machineArguments(config), ...joinArguments(config)], {
      stdio: ["inherit", "inherit", "inherit", lock.fd],
      env: { ...process.env, [LOCK_FD]: String(SHARED_LOCK_FD) },
    });
  } catch (error) {
    throw new BureauError("failed", `Cannot start "${program}": ${messageOf(error)}`, {
      hint: "--programs-dir names a whole build; in a checkout: npm run build",
    });
  }
  const stop = (): void => child.kill("SIGTERM");
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  await child.exited;
  signal.removeEventListener("abort", stop);
  return child.exitCode ?? exitCodes.failed;
}
