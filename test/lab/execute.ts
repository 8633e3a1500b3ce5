/** Running a program of the host to its end: output caught, input given, time limited. */
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type ExecuteOptions = {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  /** The command's name in errors; default the whole command. */
  readonly label?: string;
  /** Kills the program after its time, where a signal to the program does not reach all its processes. */
  readonly kill?: (pid: number) => void;
};

/** Enough for most commands, with two cores and four machines that boot meanwhile. */
const EXECUTE_MS_MAX = 60_000;
/** A killed program ends at once, unless other processes hold its output. */
const DYING_MS_MAX = 2_000;
/** Maximum lines of output in an error. */
const SHOWN_LINES_MAX = 80;

/** Runs `command`; its exit code is an answer, not an error. @throws BureauError `timeout` */
export async function execute(
  command: readonly string[],
  options: ExecuteOptions = {},
): Promise<CommandResult> {
  const timeoutMs = options.timeoutMs ?? EXECUTE_MS_MAX;
  const child = Bun.spawn([...command], {
    stdin: options.input === undefined ? "ignore" : new Blob([options.input]),
    stdout: "pipe",
    stderr: "pipe",
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const output = Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  const timer = new AbortController();
  const late = systemClock.sleep(timeoutMs, timer.signal).then((): undefined => undefined);
  const ended = await Promise.race([output, late]);
  timer.abort();
  if (ended !== undefined) return { stdout: ended[0], stderr: ended[1], code: ended[2] };
  if (options.kill === undefined) child.kill("SIGKILL");
  else options.kill(child.pid);
  const [stdout, stderr] = await Promise.race([output, systemClock.sleep(DYING_MS_MAX).then(() => ["", ""])]);
  child.kill("SIGKILL");
  throw new BureauError(
    "timeout",
    `${options.label ?? quoted(command)} did not end within ${timeoutMs} ms; until then it printed:\n${lastLines(`${stdout}${stderr}`)}`,
  );
}

/** Runs `command`, which must exit 0; returns what it printed. @throws BureauError `failed` with its whole output */
export async function executeOk(command: readonly string[], options: ExecuteOptions = {}): Promise<string> {
  const result = await execute(command, options);
  if (result.code === 0) return result.stdout;
  throw new BureauError("failed", describe(quoted(command), result));
}

/** `WHAT exited with N:` and its output. */
export const describe = (what: string, { code, stdout, stderr }: CommandResult): string =>
  `${what} exited with ${code}:\n${lastLines([stdout.trimEnd(), stderr.trimEnd()].filter((part) => part !== "").join("\n"))}`;

export function lastLines(text: string, most = SHOWN_LINES_MAX): string {
  const lines = text.trimEnd().split("\n");
  return lines.length <= most
    ? lines.join("\n")
    : `… ${lines.length - most} lines before\n${lines.slice(-most).join("\n")}`;
}

const quoted = (command: readonly string[]): string =>
  command.map((word) => (/^[\w./:=@,+-]+$/u.test(word) ? word : JSON.stringify(word))).join(" ");

/** Quotes one word for a shell. */
export const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
