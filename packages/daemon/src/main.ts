/** `bureau-daemon`: flags, then the daemon until it is told to stop or the machine is revoked. */
import { systemClock } from "@bureau/kit/clock";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { aborted, exitCodes, type ProgramContext, runProgram } from "@bureau/kit/lifecycle";
import { RefError } from "@bureau/schema/refs";
import { startDaemon } from "./daemon.ts";
import { type DaemonConfig, parseDaemonFlags } from "./daemon-config.ts";
import { version } from "./version.ts";

async function main({ log, signal, args }: ProgramContext): Promise<number> {
  let config: DaemonConfig | "version";
  try {
    config = parseDaemonFlags(args);
  } catch (error) {
    if (!(isBureauError(error) || error instanceof RefError)) throw error;
    log.error(error.message, isBureauError(error) && error.hint !== "" ? { hint: error.hint } : {});
    return exitCodes.usage;
  }
  if (config === "version") {
    console.log(version);
    return exitCodes.ok;
  }
  await using daemon = await startDaemon(config, { clock: systemClock, log, random: Math.random });
  const revoked = await Promise.race([daemon.revoked, aborted(signal)]);
  if (revoked === undefined) return exitCodes.ok;
  log.error("this machine no longer belongs to its fleet; starting again cannot help", {
    reason: messageOf(revoked),
    hint: "provision it again: bureau machine provision",
  });
  return exitCodes.revoked;
}

await runProgram("bureau-daemon", main);
