/** `bureau-daemon`: flags, then the daemon until it is told to stop or the machine is revoked. */
import { systemClock } from "@bureau/kit/clock";
import { messageOf } from "@bureau/kit/errors";
import { aborted, exitCodes, type ProgramContext, runProgram } from "@bureau/kit/lifecycle";
import { configOrExit } from "@bureau/kit/machine-flags";
import { startDaemon } from "./daemon.ts";
import { parseDaemonFlags } from "./daemon-config.ts";

async function main(context: ProgramContext): Promise<number> {
  const config = configOrExit(context, parseDaemonFlags);
  if (typeof config === "number") return config;
  const { log, signal } = context;
  await using daemon = await startDaemon(config, { clock: systemClock, log, random: Math.random });
  const revoked = await Promise.race([daemon.revoked, aborted(signal)]);
  if (revoked === undefined) return exitCodes.ok;
  log.error("this machine no longer belongs to its fleet; starting again cannot help", {
    reason: messageOf(revoked),
    hint: "docs/operations.md says how a machine joins again",
  });
  return exitCodes.revoked;
}

await runProgram("bureau-daemon", main);
