/** `bureau-daemon`: flags, then the daemon until it is told to stop or the machine is revoked. */
import { systemClock } from "@bureau/kit/clock";
import { messageOf } from "@bureau/kit/errors";
import { logRateLimitWaits } from "@bureau/kit/rate-limit";
import { reapInheritedChildren } from "@bureau/os/exec";
import { aborted, exitCodes, type ProgramContext, runProgram } from "@bureau/os/lifecycle";
import { configOrExit } from "@bureau/os/machine-flags";
import { feedWatchdog, notifyServiceManager } from "@bureau/os/systemd";
import { startDaemon } from "./daemon.ts";
import { parseDaemonFlags } from "./daemon-config.ts";

async function main(context: ProgramContext): Promise<number> {
  const config = configOrExit(context, parseDaemonFlags);
  if (typeof config === "number") return config;
  const { log, signal } = context;
  logRateLimitWaits(log);
  using _children = reapInheritedChildren();
  using _watchdog = feedWatchdog();
  const runtime = { clock: systemClock, random: Math.random, log };
  await using daemon = await startDaemon(config, runtime, {
    args: context.args,
    onStatus: (status) => notifyServiceManager({ status }),
  });
  void daemon.ready.then((status) => notifyServiceManager({ ready: true, status }));
  const revoked = await Promise.race([daemon.revoked, aborted(signal)]);
  notifyServiceManager({ stopping: true });
  if (revoked === undefined) return exitCodes.ok;
  log.error("machine.left", "this machine no longer belongs to its fleet; starting again cannot help", {
    reason: messageOf(revoked),
    hint: "bureau machine uninstall removes it; bureau machine provision lets it join again",
  });
  return exitCodes.revoked;
}

void runProgram("bureau-daemon", main);
