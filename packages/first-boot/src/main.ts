/** `bureau-first-boot`: joins the machine to its fleet, unless it has joined. Ends once the session file is written. */
import { systemClock } from "@bureau/kit/clock";
import { logRateLimitWaits } from "@bureau/kit/rate-limit";
import { hasBooted } from "@bureau/launcher/first-boot-process";
import { LOCK_FD, takeInstanceLock } from "@bureau/launcher/instance-lock";
import { exitCodes, type ProgramContext, runProgram } from "@bureau/os/lifecycle";
import { configOrExit } from "@bureau/os/machine-flags";
import { dieWithParent, joinSessionKeyring, makeUndumpable } from "@bureau/os/posix";
import { firstBoot } from "./first-boot.ts";
import { parseFirstBootFlags } from "./first-boot-config.ts";
import { forgetOldMembership } from "./forget-old-membership.ts";

async function main(context: ProgramContext): Promise<number> {
  makeUndumpable();
  // A killed launcher must not leave its first boot behind, which holds the lock of the state folder.
  if (process.env[LOCK_FD] !== undefined) dieWithParent();
  const config = configOrExit(context, parseFirstBootFlags);
  if (typeof config === "number") return config;
  const { log, signal } = context;
  logRateLimitWaits(log);
  joinSessionKeyring();
  using _lock = takeInstanceLock(config.layout);
  await forgetOldMembership(config, { clock: systemClock, log, signal });
  if (!hasBooted(config.layout)) await firstBoot(config, { clock: systemClock, log, signal });
  return exitCodes.ok;
}

void runProgram("bureau-first-boot", main);
