/** `bureau-launcher`: parses flags, takes the lock, runs first boot if needed, then runs the launcher until SIGTERM. */
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { reapInheritedChildren } from "@bureau/os/exec";
import { machineKeyFile, machineSessionFile } from "@bureau/os/layout";
import { aborted, exitCodes, type ProgramContext, runProgram } from "@bureau/os/lifecycle";
import { configOrExit } from "@bureau/os/machine-flags";
import { joinSessionKeyring, makeUndumpable } from "@bureau/os/posix";
import { feedWatchdog, notifyServiceManager } from "@bureau/os/systemd";
import { needsFirstBoot, runFirstBoot } from "./first-boot-process.ts";
import { takeInstanceLock } from "./instance-lock.ts";
import { loadMachineKey, printNewKey } from "./keys.ts";
import { startLauncher } from "./launcher.ts";
import { parseLauncherFlags, warnOfLongRunDir } from "./launcher-config.ts";

async function main(context: ProgramContext): Promise<number> {
  makeUndumpable();
  if (context.args.length === 1 && context.args[0] === "--new-key") {
    await printNewKey();
    return exitCodes.ok;
  }
  const config = configOrExit(context, parseLauncherFlags);
  if (typeof config === "number") return config;
  const { log, signal } = context;
  warnOfLongRunDir(config, log);
  joinSessionKeyring();
  using _children = reapInheritedChildren();
  using lock = takeInstanceLock(config.layout);
  if (config.firstBootOnly || needsFirstBoot(config)) {
    const code = await runFirstBoot(config, lock, signal);
    if (config.firstBootOnly || code !== exitCodes.ok || signal.aborted) return code;
  }
  const key = await loadMachineKey(config.layout);
  if (key === undefined)
    throw new BureauError(
      "failed",
      `The machine has a session but no key: the service manager passed none, and there is none in "${machineKeyFile(config.layout)}"`,
      {
        hint: `restore the key, or remove "${machineSessionFile(config.layout)}" and join again`,
      },
    );
  using _watchdog = feedWatchdog();
  await using _launcher = await startLauncher(config, {
    clock: systemClock,
    log,
    key,
    random: Math.random,
    args: context.args,
    lockFd: lock.fd,
  });
  notifyServiceManager({ ready: true });
  await aborted(signal);
  notifyServiceManager({ stopping: true });
  return exitCodes.ok;
}

void runProgram("bureau-launcher", main);
