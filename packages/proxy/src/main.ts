/**
 * `bureau-proxy`: holds one principal's credentials and puts them into its requests.
 *
 * It protects its memory from other processes, writes `pid <n>` on standard output, reads its configuration from standard
 * input, listens, and writes `ready`. Its arguments only mark it in the process table: `--spare`, one that gets its
 * configuration later.
 */
import { writeSync } from "node:fs";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { aborted, runProgram } from "@bureau/os/lifecycle";
import { makeUndumpable } from "@bureau/os/posix";
import { acceptInvitations } from "./accept-invitations.ts";
import { startProxy } from "./proxy.ts";
import { readStart } from "./read-start.ts";

/** The program's start waits this long for invitations; the rest continues concurrently. */
const INVITATIONS_MS_MAX = 2_000;

void runProgram("bureau-proxy", async ({ log, signal }) => {
  makeUndumpable();
  // A working folder could not be unmounted, and the proxy needs none.
  process.chdir("/");
  if (process.env["BUN_CONFIG_VERBOSE_FETCH"] !== undefined)
    throw new BureauError("unsupported", "Cannot start: BUN_CONFIG_VERBOSE_FETCH would print credentials", {
      hint: "unset BUN_CONFIG_VERBOSE_FETCH",
    });
  writeSync(1, `pid ${process.pid}\n`);
  const config = await Promise.race([readStart(Bun.stdin.stream()), aborted(signal)]);
  if (config === undefined) return;
  const ownLog = log.with({ principal: config.principal });
  await using _proxy = await startProxy(config, { log: ownLog });
  // The program can send to these rooms at once. A homeserver that does not answer delays the start no longer.
  await Promise.race([
    acceptInvitations(config, { log: ownLog, signal }),
    systemClock.sleep(INVITATIONS_MS_MAX),
  ]);
  writeSync(1, "ready\n");
  ownLog.info("proxy.listening", "listening", { socket: config.socket_path });
  await aborted(signal);
});
