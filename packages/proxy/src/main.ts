/**
 * `bureau-proxy`: holds one principal's credentials and puts them into its requests.
 *
 * It closes its memory to other processes, writes `pid <n>` on standard output, reads who it is from standard input,
 * listens, and writes `ready`. Arguments only mark the process in the process table, but for `--spare`: that one is told later
 * who it is, so everything is loaded and rehearsed before standard input is read, and nothing is left to wait for.
 */
import { writeSync } from "node:fs";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { aborted, runProgram } from "@bureau/os/lifecycle";
import { makeUndumpable } from "@bureau/os/posix";
import { acceptInvitations } from "./accept-invitations.ts";
import { startProxy } from "./proxy.ts";
import { readStart } from "./read-start.ts";
import { rehearse } from "./rehearse.ts";

/** The tasks that the program's start waits for; others run concurrently. */
const INVITATIONS_MS_MAX = 2_000;

await runProgram("bureau-proxy", async ({ log, signal, args }) => {
  makeUndumpable();
  // No folder is kept busy by a proxy, and none it was started in matters to it.
  process.chdir("/");
  if (process.env["BUN_CONFIG_VERBOSE_FETCH"] !== undefined)
    throw new BureauError("unsupported", "Cannot start: BUN_CONFIG_VERBOSE_FETCH would print credentials", {
      hint: "unset BUN_CONFIG_VERBOSE_FETCH",
    });
  const runDir = args[args.indexOf("--run-dir") + 1];
  if (args.includes("--spare") && runDir !== undefined) await rehearse(runDir);
  writeSync(1, `pid ${process.pid}\n`);
  const config = await Promise.race([readStart(Bun.stdin.stream()), aborted(signal)]);
  if (config === undefined) return;
  const ownLog = log.with({ principal: config.principal });
  await using _proxy = await startProxy(config, { log: ownLog });
  // The program may speak in these rooms at once; a homeserver that does not answer keeps it from nothing else.
  await Promise.race([
    acceptInvitations(config, { log: ownLog, signal }),
    systemClock.sleep(INVITATIONS_MS_MAX),
  ]);
  writeSync(1, "ready\n");
  ownLog.info("proxy.listening", "listening", { socket: config.socket_path });
  await aborted(signal);
});
