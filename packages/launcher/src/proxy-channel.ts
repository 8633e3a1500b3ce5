/**
 * The two ways to start a proxy, with one interface: as a child, or as a unit that systemd starts for a connection to its
 * socket. In both the launcher writes to its standard input and reads its standard output: the proxy prints `pid <n>` when
 * it runs, reads its configuration, and prints `ready`. Proxies outlive the launcher in both.
 */
import type { Socket } from "node:net";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { dial } from "@bureau/os/dial";
import { aborted } from "@bureau/os/lifecycle";
import { identify, type ProcessId } from "@bureau/os/process-table";

/** A line of a proxy is `pid 12345` or `ready`. A longer one is not from a proxy. */
const LINE_BYTES_MAX = 4_096;
/** Between the connection and the first line. A host with little free memory may need seconds. */
const BEGIN_MS_MAX = 10_000;

export type ProxyChannel = {
  readonly id: ProcessId;
  /** Sends the whole configuration, then end of file. */
  send(bytes: Uint8Array): Promise<void>;
  /** Its next line. @throws BureauError `timeout`; `failed` when the proxy ended, with the reason */
  nextLine(timeoutMs: number): Promise<string>;
  /** Sets whether this channel keeps the launcher's process running. */
  hold(on: boolean): void;
};

/** Starts a proxy; resolves after its first line. `mode` appears in the process table. @throws BureauError */
export type OpenProxy = (mode: readonly string[]) => Promise<ProxyChannel>;

/** Starts proxies as children, each in its own session. */
export function childProxies(command: readonly string[], runDir: string): OpenProxy {
  return async (mode) => {
    const child = spawn([...command, ...mode, "--run-dir", runDir]);
    const ended = child.exited.then((code) => `it exited with ${code}`);
    const id = identify(child.pid);
    if (id === undefined) throw new BureauError("failed", `Cannot start a proxy: ${await ended}`);
    const lines = new LineReader(child.stdout);
    const channel: ProxyChannel = {
      id,
      async send(bytes) {
        child.stdin.write(bytes);
        await child.stdin.end();
      },
      nextLine: (timeoutMs) => lines.next(timeoutMs, ended),
      hold: (on) => (on ? child.ref() : child.unref()),
    };
    try {
      await begun(channel);
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
    return channel;
  };
}

function spawn(command: string[]) {
  try {
    return Bun.spawn(command, {
      // BUREAU_LOG is the only environment variable that a proxy reads.
      env: process.env["BUREAU_LOG"] === undefined ? {} : { BUREAU_LOG: process.env["BUREAU_LOG"] },
      cwd: "/",
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
      detached: true,
    });
  } catch (error) {
    throw new BureauError("failed", `Cannot start a proxy: cannot execute "${command.join(" ")}"`, {
      cause: error,
    });
  }
}

const proxySocket = { peer: "proxies' socket", hint: "systemctl status bureau-proxy.socket" };

/** Starts a proxy by a connection to the socket at `path` (`bureau-proxy.socket`). */
export function socketProxies(path: string): OpenProxy {
  return async () => {
    const socket = await dial(path, proxySocket, { allowHalfOpen: true });
    const ended = endOf(socket).then(() => "its connection closed; see journalctl -u 'bureau-proxy@*'");
    const lines = new LineReader(socket);
    const send = (bytes: Uint8Array): Promise<void> =>
      new Promise((resolve, reject) => {
        socket.once("error", reject);
        socket.end(bytes, () => resolve());
      });
    const nextLine = (timeoutMs: number): Promise<string> => lines.next(timeoutMs, ended);
    try {
      const id = await begun({ nextLine });
      return { id, send, nextLine, hold: (on) => void (on ? socket.ref() : socket.unref()) };
    } catch (error) {
      socket.destroy();
      throw error;
    }
  };
}

/** When the peer disconnects, the runtime emits `end` on every connection, but `close` not on every one. */
const endOf = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    for (const event of ["end", "error", "close"]) socket.once(event, () => resolve());
  });

/** Reads the first line, which names its process. */
async function begun({ nextLine }: Pick<ProxyChannel, "nextLine">): Promise<ProcessId> {
  try {
    const line = await nextLine(BEGIN_MS_MAX);
    const id = identify(Number(/^pid (\d+)$/.exec(line)?.[1] ?? 0));
    if (id !== undefined) return id;
    throw new BureauError("failed", `its first line names no running process: "${line}"`);
  } catch (error) {
    throw cannotStart("a proxy", error, "see the proxy's log");
  }
}

/** The error for a proxy that did not start, from the error of {@link ProxyChannel.nextLine}. */
export const cannotStart = (what: string, error: unknown, hint: string): BureauError =>
  new BureauError(isBureauError(error) ? error.code : "failed", `Cannot start ${what}: ${messageOf(error)}`, {
    hint,
  });

/** Reads a stream line by line. `LINE_BYTES_MAX` bytes without a newline count as the end of the stream. */
class LineReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #text = "";
  #pending: Promise<IteratorResult<Uint8Array>> | undefined;

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  /** The next line. `ended` resolves with how the writer ended, for the error. @throws BureauError */
  async next(timeoutMs: number, ended: Promise<string>): Promise<string> {
    const late = AbortSignal.timeout(timeoutMs);
    const line = await this.#read(late);
    if (line !== undefined) return line;
    // The output ended: so did the process, or it is no proxy and may never end.
    const how = late.aborted ? undefined : await Promise.race([ended, aborted(late)]);
    if (how === undefined) throw new BureauError("timeout", `it wrote nothing within ${timeoutMs} ms`);
    throw new BureauError("failed", how);
  }

  async #read(signal: AbortSignal): Promise<string | undefined> {
    const late = aborted(signal);
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      if (this.#text.length > LINE_BYTES_MAX) return undefined;
      this.#pending ??= this.#chunks.next().catch(() => ({ done: true, value: undefined }));
      const result = await Promise.race([this.#pending, late]);
      if (result === undefined) return undefined;
      this.#pending = undefined;
      if (result.done === true) return undefined;
      this.#text += Buffer.from(result.value).toString("latin1");
    }
  }
}
