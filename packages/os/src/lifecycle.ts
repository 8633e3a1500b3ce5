/**
 * How every Bureau program starts and stops: `runProgram` gives `main` an AbortSignal that fires on SIGTERM or
 * SIGINT, logs an error of `main` once, and is the only caller of `process.exit`.
 */
import { BureauError, messageOf } from "@bureau/kit/errors";
import { unlessOfFile } from "@bureau/kit/file-error";
import type { Log } from "@bureau/kit/log";
import { configureEgress, egressOfEnvironment, takeProxyVariables } from "./egress.ts";
import { createLog } from "./log.ts";

/** Exit codes of long-running programs. Supervisors match on them. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** The machine's session was revoked: starting again cannot help (EX_NOPERM of sysexits.h). */
  revoked: 77,
} as const;

export type ProgramContext = { readonly log: Log; readonly signal: AbortSignal; readonly args: string[] };

/**
 * Runs `main` to its end and exits with the code it returns (default 0), or 1 when it throws. When `main` is stopped
 * and throws the signal's own reason, the code is 0.
 */
export async function runProgram(
  name: string,
  // biome-ignore lint/suspicious/noConfusingVoidType: a main that returns nothing exits 0
  main: (context: ProgramContext) => Promise<number | void>,
): Promise<never> {
  const log = createLog(name);
  const stop = new AbortController();
  const onSignal = (received: NodeJS.Signals): void => {
    log.info("program.stopping", "stopping", { signal: received });
    stop.abort(new BureauError("failed", `received ${received}`));
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  let code: number = exitCodes.failed;
  try {
    // A long-running program takes its proxy from its configuration, not from the shell that started it.
    takeProxyVariables(process.env);
    configureEgress(egressOfEnvironment(process.env));
    code = (await main({ log, signal: stop.signal, args: process.argv.slice(2) })) ?? exitCodes.ok;
  } catch (error) {
    if (stop.signal.aborted && error === stop.signal.reason) code = exitCodes.ok;
    else logFailure(log, unlessOfFile(error));
  }
  process.exit(code);
}

/** Resolves when `signal` aborts. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });

/** A stack helps only with a bug of ours: an error with a hint, even an empty one, is complete without it. */
function logFailure(log: Log, error: unknown): void {
  const expected = error instanceof Error && "code" in error && "hint" in error;
  const stack = error instanceof Error ? error.stack : undefined;
  log.error(
    "program.failed",
    messageOf(error),
    expected ? { code: error.code, hint: error.hint } : { stack },
  );
}
