/**
 * The two ways a proxy comes to be, behind one shape: as a child of ours, or in a unit of its own that systemd starts
 * when its socket is connected to. Either way its standard input and output are a channel to us: it says `pid <n>` when
 * it has begun, is sent what it is to be, and says `ready`. Proxies outlive us in both.
 */
import type { Socket } from "node:net";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { dial } from "@bureau/os/dial";
import { aborted } from "@bureau/os/lifecycle";
import { identify, type ProcessId } from "@bureau/os/process-table";

/** A line of a proxy is `pid 12345` or `ready`; anything longer is not a proxy. */
const LINE_BYTES_MAX = 4_096;
/** Between the connection and the first line; a host that is short of memory may need seconds. */
const BEGIN_MS_MAX = 10_000;

export type ProxyChannel = {
  readonly id: ProcessId;
  /** Sends everything it is told, then end of file. */
  send(bytes: Uint8Array): Promise<void>;
  /** Its next line. @throws BureauError `timeout`; `failed` when it ended instead, with how it did */
  nextLine(timeoutMs: number): Promise<string>;
  /** Whether this channel keeps our own process alive. */
  hold(on: boolean): void;
};

/** Starts one; resolves when it has begun. `mode` shows in the process table. @throws BureauError */
export type OpenProxy = (mode: readonly string[]) => Promise<ProxyChannel>;

/** As children, in sessions of their own. `onExit` is called when one has ended. */
export function childProxies(command: readonly string[], runDir: string, onExit: () => void): OpenProxy {
  return async (mode) => {
    const child = spawn([...command, ...mode, "--run-dir", runDir], onExit);
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

function spawn(command: string[], onExit: () => void) {
  try {
    return Bun.spawn(command, {
      // BUREAU_LOG is the only setting a proxy takes from its surroundings.
      env: process.env["BUREAU_LOG"] === undefined ? {} : { BUREAU_LOG: process.env["BUREAU_LOG"] },
      cwd: "/",
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
      detached: true,
      onExit,
    });
  } catch (error) {
    throw new BureauError("failed", `Cannot start a proxy: "${command.join(" ")}" does not run`, {
      cause: error,
    });
  }
}

const proxySocket = { peer: "proxies' socket", hint: "systemctl status bureau-proxy.socket" };

/** One for every connection to the socket at `path` (`bureau-proxy.socket`). */
export function socketProxies(path: string, onExit: () => void): OpenProxy {
  return async () => {
    const socket = await dial(path, proxySocket, { allowHalfOpen: true });
    const ended = endOf(socket).then(() => "its connection closed; see journalctl -u 'bureau-proxy@*'");
    void ended.then(onExit);
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

/** Its first line, which names it. */
async function begun({ nextLine }: Pick<ProxyChannel, "nextLine">): Promise<ProcessId> {
  try {
    const line = await nextLine(BEGIN_MS_MAX);
    const id = identify(Number(/^pid (\d+)$/.exec(line)?.[1] ?? 0));
    if (id !== undefined) return id;
    throw new BureauError("failed", `no process is what it says it is: "${line}"`);
  } catch (error) {
    throw cannotStart("a proxy", error, "its reason stands in its own log");
  }
}

/** The error of a proxy that did not come to be, from that of {@link ProxyChannel.nextLine}. */
export const cannotStart = (what: string, error: unknown, hint: string): BureauError =>
  new BureauError(isBureauError(error) ? error.code : "failed", `Cannot start ${what}: ${messageOf(error)}`, {
    hint,
  });

/** Lines of a stream, one at a time; what comes after `LINE_BYTES_MAX` without a newline counts as its end. */
class LineReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #text = "";
  #pending: Promise<IteratorResult<Uint8Array>> | undefined;

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  /** The next one; `ended` tells how their writer ended, when there is none. @throws BureauError */
  async next(timeoutMs: number, ended: Promise<string>): Promise<string> {
    const late = AbortSignal.timeout(timeoutMs);
    const line = await this.#read(late);
    if (line !== undefined) return line;
    // The output ended: so did the process, or it is no proxy and may never end.
    const how = late.aborted ? undefined : await Promise.race([ended, aborted(late)]);
    if (how === undefined) throw new BureauError("timeout", `it said nothing within ${timeoutMs} ms`);
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
