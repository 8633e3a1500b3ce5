/** `bureau-launcher`: flags, the lock, first boot when it is due, then the launcher until it is told to stop. */
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { onRateLimitWait } from "@bureau/kit/rate-limit";
import { reapInheritedChildren } from "@bureau/os/exec";
import { machineKeyFile, machineSessionFile } from "@bureau/os/layout";
import { aborted, exitCodes, type ProgramContext, runProgram } from "@bureau/os/lifecycle";
import { configOrExit } from "@bureau/os/machine-flags";
import { joinSessionKeyring, makeUndumpable } from "@bureau/os/posix";
import { feedWatchdog, notifyServiceManager } from "@bureau/os/systemd";
import { firstBoot, hasBooted } from "@bureau/first-boot/first-boot";
import { forgetOldLife } from "@bureau/first-boot/forget-old-membership";
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
  onRateLimitWait((wait) =>
    log.info("homeserver.rate-limited", "the homeserver limits the request rate; waiting", wait),
  );
  joinSessionKeyring();
  using _children = reapInheritedChildren();
  using lock = takeInstanceLock(config.layout);
  await forgetOldLife(config, { clock: systemClock, log, signal });
  if (!hasBooted(config.layout)) await firstBoot(config, { clock: systemClock, log, signal });
  if (config.firstBootOnly || signal.aborted) return exitCodes.ok;
  const key = await loadMachineKey(config.layout);
  if (key === undefined)
    throw new BureauError(
      "failed",
      `The machine has a session but no key: neither from the service manager nor in "${machineKeyFile(config.layout)}"`,
      {
        hint: `restore the key, or remove "${machineSessionFile(config.layout)}" and join again`,
      },
    );
  using _watchdog = feedWatchdog();
  await using _launcher = await startLauncher(config, {
    ...{ clock: systemClock, log, key, random: Math.random },
    ...{ args: context.args, lockFd: lock.fd },
  });
  notifyServiceManager({ ready: true });
  await aborted(signal);
  notifyServiceManager({ stopping: true });
  return exitCodes.ok;
}

await runProgram("bureau-launcher", main);
