/**
 * Runs a program to its end on this host: streams its input with back-pressure, limits its output, and stops it after a
 * timeout or when the caller's signal aborts. After the stop the caller does not wait for a child of the program that
 * still holds its output open.
 */
import { BureauError } from "@bureau/kit/errors";

export type Ran = {
  /** 128 + n when signal n ended it. */
  readonly code: number;
  readonly stdout: string;
  /** Its end, at most {@link STDERR_BYTES_KEPT}. */
  readonly stderr: string;
};

export type RunOptions = {
  /** Written to its standard input, which is closed after it. Default: nothing, closed at once. */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** The program is stopped after this time. */
  readonly timeoutMs: number;
  /** Called for every line of its standard error as it comes. */
  readonly onLine?: (line: string) => void;
};

export type ProgramOptions = RunOptions & {
  /** Names the program and its place in errors. */
  readonly what: string;
  readonly signal?: AbortSignal;
  /** All of its environment; default: this program's. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdoutBytesMax?: number;
  /** In a process group of its own, which Ctrl-C in our terminal does not reach. */
  readonly detached?: boolean;
};

/** Far more than any output that we parse. */
const STDOUT_BYTES_MAX = 1 << 20;
/** Only the end of standard error is kept: it names the failure. */
const STDERR_BYTES_KEPT = 32 << 10;
/** Between SIGTERM and SIGKILL. */
const GRACE_MS = 2_000;

/** @throws BureauError `timeout`, `too-large`, `failed` when interrupted, `unsupported` without the program */
export async function runToEnd(argv: readonly string[], options: ProgramOptions): Promise<Ran> {
  const { stdoutBytesMax = STDOUT_BYTES_MAX } = options;
  if (options.signal?.aborted) throw interrupted(options.what);
  const child = start(argv, options);
  const out = child.stdout.getReader();
  const err = child.stderr.getReader();
  let stopped: BureauError | undefined;
  let killing: ReturnType<typeof setTimeout> | undefined;
  const stop = (why: BureauError): void => {
    stopped ??= why;
    child.kill("SIGTERM");
    killing ??= setTimeout(() => child.kill("SIGKILL"), GRACE_MS);
    for (const reader of [out, err]) void reader.cancel().catch(() => {});
  };
  const seconds = Math.ceil(options.timeoutMs / 1000);
  const timer = setTimeout(
    () => stop(new BureauError("timeout", `${options.what} did not end within ${seconds} s`)),
    options.timeoutMs,
  );
  const onAbort = (): void => stop(interrupted(options.what));
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const tooMuch = (): void =>
    stop(new BureauError("too-large", `${options.what} printed more than ${stdoutBytesMax} bytes`));
  try {
    const [code, stdout, stderr] = await Promise.all([
      child.exited,
      collect(out, stdoutBytesMax, tooMuch),
      collectTail(err, options.onLine),
      feed(child.stdin, options.stdin).catch((error: unknown) => {
        child.kill("SIGTERM");
        throw error;
      }),
    ]);
    if (stopped !== undefined) throw stopped;
    return { code, stdout, stderr };
  } finally {
    clearTimeout(timer);
    clearTimeout(killing);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

const interrupted = (what: string): BureauError => new BureauError("failed", `${what} was interrupted`);

function start(argv: readonly string[], { env, detached = false }: ProgramOptions) {
  try {
    return Bun.spawn([...argv], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      detached,
      // No program we run needs our working directory, and many read files in it.
      cwd: "/",
      ...(env === undefined ? {} : { env: { ...env } }),
    });
  } catch (error) {
    throw new BureauError("unsupported", `Cannot run "${argv[0]}"`, { cause: error });
  }
}

/**
 * Writes all of `input` and closes. A program that ends before it reads all is no error: its exit code has the reason.
 */
async function feed(sink: Bun.FileSink, input: RunOptions["stdin"]): Promise<void> {
  const write = async (chunk: string | Uint8Array): Promise<boolean> => {
    try {
      await sink.write(chunk);
      await sink.flush();
      return true;
    } catch {
      return false;
    }
  };
  if (typeof input === "string" || input instanceof Uint8Array) await write(input);
  else if (input !== undefined) for await (const chunk of input) if (!(await write(chunk))) break;
  try {
    await sink.end();
  } catch {
    // It has already ended.
  }
}

type Reader = { read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }> };

async function* chunks(reader: Reader): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { value, done } = await reader.read();
    if (done || value === undefined) return;
    yield value;
  }
}

async function collect(reader: Reader, bytesMax: number, onFull: () => void): Promise<string> {
  const kept: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks(reader)) {
    bytes += chunk.length;
    if (bytes > bytesMax) onFull();
    else kept.push(chunk);
  }
  return Buffer.concat(kept).toString("utf8");
}

/** Passes on every line and keeps the end of the text. */
async function collectTail(reader: Reader, onLine: ((line: string) => void) | undefined): Promise<string> {
  const decoder = new TextDecoder();
  let kept = "";
  let line = "";
  for await (const chunk of chunks(reader)) {
    const text = decoder.decode(chunk, { stream: true });
    kept = `${kept}${text}`.slice(-STDERR_BYTES_KEPT);
    if (onLine === undefined) continue;
    const lines = `${line}${text}`.split(/\r\n|[\r\n]/u);
    line = (lines.pop() ?? "").slice(-STDERR_BYTES_KEPT);
    for (const complete of lines) onLine(complete);
  }
  if (line !== "") onLine?.(line);
  return kept;
}
