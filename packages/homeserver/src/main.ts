/** `bureau-homeserver`: one embedded homeserver until SIGTERM. Prints one JSON line when it is ready. */
import { writeSync } from "node:fs";
import { systemClock } from "@bureau/kit/clock";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { aborted, exitCodes, type ProgramContext, runProgram } from "@bureau/os/lifecycle";
import { parseFlags } from "./flags.ts";
import { type HomeserverConfig, startHomeserver } from "./homeserver.ts";

void runProgram("bureau-homeserver", async ({ args, log, signal }) => {
  const config = flagsOrUsage(args, log);
  if (config === undefined) return exitCodes.usage;
  await using server = await startHomeserver(config, { log, clock: systemClock });
  writeSync(1, `${JSON.stringify({ ready: true, url: server.url })}\n`);
  await aborted(signal);
  return exitCodes.ok;
});

function flagsOrUsage(args: string[], log: ProgramContext["log"]): HomeserverConfig | undefined {
  try {
    return parseFlags(args);
  } catch (error) {
    if (!isBureauError(error)) throw error;
    log.error("program.failed", messageOf(error), { code: error.code, hint: error.hint });
    return undefined;
  }
}
