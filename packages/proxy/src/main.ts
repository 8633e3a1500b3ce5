/**
 * `bureau-proxy`: holds one principal's credentials and puts them into its requests.
 *
 * It closes its memory to other processes, reads who it is from standard input, listens, and writes `ready` on
 * standard output. Arguments are ignored: they only mark the process for whoever looks for it. Everything is loaded
 * before standard input is read, so a spare proxy, told later who it is, has nothing left to wait for.
 */
import { writeSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { aborted, runProgram } from "@bureau/kit/lifecycle";
import { makeUndumpable } from "@bureau/kit/posix";
import { startProxy } from "./proxy.ts";
import { readStart } from "./read-start.ts";

await runProgram("bureau-proxy", async ({ log, signal }) => {
  makeUndumpable();
  // No folder is kept busy by a proxy, and none it was started in matters to it.
  process.chdir("/");
  if (process.env["BUN_CONFIG_VERBOSE_FETCH"] !== undefined)
    throw new BureauError("unsupported", "Cannot start: BUN_CONFIG_VERBOSE_FETCH would print credentials", {
      hint: "unset BUN_CONFIG_VERBOSE_FETCH",
    });
  const config = await Promise.race([readStart(Bun.stdin.stream()), aborted(signal)]);
  if (config === undefined) return;
  const ownLog = log.with({ principal: config.principal });
  await using _proxy = await startProxy(config, { log: ownLog });
  writeSync(1, "ready\n");
  ownLog.info("listening", { socket: config.socket_path });
  await aborted(signal);
});
