/**
 * The two ways a proxy comes to be, behind one shape: as a child of ours, or in a unit of its own that systemd starts
 * when its socket is connected to. Either way its standard input and output are a channel to us: it says `pid <n>` when
 * it has begun, is sent what it is to be, and says `ready`. Proxies outlive us in both.
 */
import { connect, type Socket } from "node:net";
import { BureauError, errnoOf, messageOf } from "@bureau/kit/errors";
import { identify, type ProcessId } from "@bureau/kit/process-table";

/** A line of a proxy is `pid 12345` or `ready`; anything longer is not a proxy. */
const LINE_BYTES_MAX = 4_096;
/** Between the connection and the first line; a host that is short of memory may need seconds. */
const BEGIN_MS_MAX = 10_000;

export type ProxyChannel = {
  readonly id: ProcessId;
  /** Sends everything it is told, then end of file. */
  send(bytes: Uint8Array): Promise<void>;
  /** Its next line; undefined when it ended or `signal` aborted. */
  nextLine(signal: AbortSignal): Promise<string | undefined>;
  /** How it ended, for a message. Resolves when it has. */
  ended(): Promise<string>;
  /** Whether this channel keeps our own process alive. */
  hold(on: boolean): void;
};

/** Starts one; resolves when it has begun. `mode` is for whoever looks at the process table. @throws BureauError */
export type OpenProxy = (mode: readonly string[]) => Promise<ProxyChannel>;

/** As children, in sessions of their own. `onExit` is called when one has ended. */
export function childProxies(command: readonly string[], runDir: string, onExit: () => void): OpenProxy {
  return async (mode) => {
    const child = spawn([...command, ...mode, "--run-dir", runDir], onExit);
    const id = identify(child.pid);
    if (id === undefined) throw new BureauError("failed", "Cannot start a proxy: it exited at once");
    const lines = new LineReader(child.stdout);
    const channel: ProxyChannel = {
      id,
      async send(bytes) {
        child.stdin.write(bytes);
        await child.stdin.end();
      },
      nextLine: (signal) => lines.next(signal),
      ended: async () => `it exited with ${await child.exited}`,
      hold: (on) => (on ? child.ref() : child.unref()),
    };
    await begun(channel);
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

/** One for every connection to the socket at `path` (`bureau-proxy.socket`). */
export function socketProxies(path: string, onExit: () => void): OpenProxy {
  return async () => {
    const socket = await dial(path);
    const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    void ended.then(onExit);
    const lines = new LineReader(socket);
    const send = (bytes: Uint8Array): Promise<void> =>
      new Promise((resolve, reject) => {
        socket.once("error", reject);
        socket.end(bytes, () => resolve());
      });
    const how = async (): Promise<string> => {
      await ended;
      return "its connection closed; see journalctl -u 'bureau-proxy@*'";
    };
    const pending = { send, nextLine: lines.next.bind(lines), ended: how };
    try {
      const id = await begun(pending);
      return { ...pending, id, hold: (on) => void (on ? socket.ref() : socket.unref()) };
    } catch (error) {
      socket.destroy();
      throw error;
    }
  };
}

function dial(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      // Every failure ends in "close".
      socket.on("error", () => {});
      resolve(socket);
    });
    socket.once("error", (error) =>
      reject(
        new BureauError(
          "unavailable",
          `Cannot start a proxy at "${path}": ${errnoOf(error) ?? messageOf(error)}`,
          {
            hint: "systemctl status bureau-proxy.socket",
          },
        ),
      ),
    );
  });
}

/** Its first line, which names it. */
async function begun(channel: Pick<ProxyChannel, "nextLine" | "ended">): Promise<ProcessId> {
  const late = AbortSignal.timeout(BEGIN_MS_MAX);
  const line = await channel.nextLine(late);
  const id = identify(Number(/^pid (\d+)$/.exec(line ?? "")?.[1] ?? 0));
  if (id !== undefined) return id;
  const why = late.aborted ? `it said nothing within ${BEGIN_MS_MAX} ms` : await channel.ended();
  throw new BureauError(late.aborted ? "timeout" : "failed", `Cannot start a proxy: ${why}`, {
    hint: "its reason stands in its own log",
  });
}

/** Lines of a stream, one at a time; what comes after `LINE_BYTES_MAX` without a newline counts as its end. */
class LineReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #text = "";
  #pending: Promise<IteratorResult<Uint8Array>> | undefined;

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async next(signal: AbortSignal): Promise<string | undefined> {
    const aborted = new Promise<undefined>((resolve) => {
      if (signal.aborted) resolve(undefined);
      signal.addEventListener("abort", () => resolve(undefined), { once: true });
    });
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      if (this.#text.length > LINE_BYTES_MAX) return undefined;
      this.#pending ??= this.#chunks.next().catch(() => ({ done: true, value: undefined }));
      const result = await Promise.race([this.#pending, aborted]);
      if (result === undefined) return undefined;
      this.#pending = undefined;
      if (result.done === true) return undefined;
      this.#text += Buffer.from(result.value).toString("latin1");
    }
  }
}
