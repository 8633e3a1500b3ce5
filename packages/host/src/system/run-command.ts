/**
 * Other programs, run to their end: with a time limit, without our terminal, and with all their output kept. Ctrl-C does not
 * reach them, so an act that has started finishes.
 */
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { type Ran, runToEnd } from "@bureau/os/run-to-end";

/** Package managers have a longer limit of their own. */
const RUN_MS_MAX = 60_000;
/** Package managers print a lot. */
const STDOUT_BYTES_MAX = 32 << 20;

export type RunOptions = {
  /** Given on standard input; otherwise it is empty. */
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
};

/** The environment of programs we call: nothing of the caller's. */
const environment = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
};

/** As timeout(1) has it. */
const TIMED_OUT = 124;

/** Code 127 when there is no such program, 124 when it took too long. */
export async function runCommand(command: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const [program = "", ...args] = command;
  const path = program.includes("/") ? program : Bun.which(program, { PATH: environment.PATH });
  if (path === null) return { code: 127, stdout: "", stderr: `no program "${program}"` };
  const { timeoutMs = RUN_MS_MAX, stdin, env } = options;
  try {
    return await runToEnd([path, ...args], {
      what: `"${program}"`,
      timeoutMs,
      stdoutBytesMax: STDOUT_BYTES_MAX,
      detached: true,
      env: { ...environment, ...env },
      ...(stdin === undefined ? {} : { stdin }),
    });
  } catch (error) {
    if (!isBureauError(error) || error.code !== "timeout") throw error;
    return { code: TIMED_OUT, stdout: "", stderr: error.message };
  }
}

/** Runs it and expects success. @throws BureauError with what it printed */
export async function mustRun(command: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const ran = await runCommand(command, options);
  if (ran.code === 0) return ran;
  const output = lastLines(`${ran.stderr}\n${ran.stdout}`);
  throw new BureauError("failed", `"${command.join(" ")}" exited with ${ran.code}: ${output}`);
}

/** Runs it. A failure is fine; an unknown result is not. @throws BureauError `timeout` */
export async function tryRun(command: readonly string[]): Promise<void> {
  const { code, stderr } = await runCommand(command);
  if (code === TIMED_OUT) throw new BureauError("timeout", stderr);
}

const lastLines = (text: string): string =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .slice(-4)
    .join("; ");

export const hasProgram = (name: string): boolean => Bun.which(name, { PATH: environment.PATH }) !== null;
