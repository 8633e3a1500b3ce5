/**
 * One WebSocket of the sandbox, joined to one of a declared upstream. The upstream's is opened first, so that a refusal is
 * still an HTTP answer. Messages pass whole and in order; memory is bounded: a side that does not read is closed.
 *
 * The runtime answers pings of either side itself, and negotiates compression with each.
 */
import { BureauError } from "@bureau/kit/errors";
import type { EgressOptions } from "@bureau/os/egress";

/** For the upstream to accept. */
const OPEN_MS_MAX = 30_000;
/** Unsent bytes to one side. */
const WAITING_BYTES_MAX = 16 * 1024 * 1024;
/** Close codes (RFC 6455, section 7.4.1; 1013 is in IANA's registry). */
const codes = { goingAway: 1001, none: 1005, broken: 1006, overloaded: 1013 } as const;

type Message = string | Buffer<ArrayBuffer>;
type Local = Bun.ServerWebSocket<WebSocketRelay>;

export type RemoteOptions = {
  /** For errors: `upstream "x"`. */
  readonly name: string;
  /** `ws:` or `wss:`. */
  readonly url: string;
  readonly headers: Headers;
  readonly protocols: string[];
  readonly egress: EgressOptions;
  /** Called once both are closed. */
  readonly over: () => void;
};

export class WebSocketRelay {
  readonly #remote: WebSocket;
  readonly #over: () => void;
  #local: Local | undefined;
  /** From the upstream, before the sandbox's side is open. */
  #early: Message[] = [];

  private constructor(remote: WebSocket, over: () => void) {
    this.#remote = remote;
    this.#over = over;
    remote.addEventListener("message", ({ data }: MessageEvent<Message>) => this.#toLocal(data));
    remote.addEventListener("close", ({ code, reason }) => {
      closeWith(this.#local, code, reason);
      this.#over();
    });
  }

  /** Connects to the upstream. @throws BureauError `unavailable` */
  static async open(options: RemoteOptions): Promise<WebSocketRelay> {
    // The runtime's client also takes headers, a forward proxy and authorities; the DOM's type has none of them.
    const init: object = {
      headers: Object.fromEntries(options.headers),
      protocols: options.protocols,
      ...options.egress,
    };
    const remote = new WebSocket(options.url, init);
    remote.binaryType = "nodebuffer";
    const relay = new WebSocketRelay(remote, options.over);
    const opened = Promise.withResolvers<void>();
    const late = setTimeout(() => remote.close(), OPEN_MS_MAX);
    remote.addEventListener("open", () => opened.resolve());
    remote.addEventListener("error", () => {});
    remote.addEventListener("close", () =>
      opened.reject(
        new BureauError("unavailable", `Cannot open a WebSocket to ${options.name}: it does not accept one`),
      ),
    );
    try {
      await opened.promise;
    } finally {
      clearTimeout(late);
    }
    return relay;
  }

  /** The subprotocol that the upstream has chosen; empty when none. */
  get protocol(): string {
    return this.#remote.protocol;
  }

  /** The sandbox's side is open. */
  join(local: Local): void {
    this.#local = local;
    const early = this.#early;
    this.#early = [];
    for (const message of early) this.#toLocal(message);
    if (this.#remote.readyState !== WebSocket.OPEN) closeWith(local, codes.broken, "");
  }

  toRemote(message: Message): void {
    if (this.#remote.readyState !== WebSocket.OPEN) return;
    this.#remote.send(message);
    if (this.#remote.bufferedAmount > WAITING_BYTES_MAX) this.close(codes.overloaded);
  }

  /** The sandbox's side is closed. */
  leave(code: number, reason: string): void {
    closeWith(this.#remote, code, reason);
  }

  /** Closes both sides. */
  close(code: number = codes.goingAway): void {
    closeWith(this.#local, code, "");
    closeWith(this.#remote, code, "");
  }

  #toLocal(message: Message): void {
    if (this.#local === undefined) this.#early.push(message);
    // The runtime closes a socket that has too much waiting: see webSocketHandler.
    else this.#local.send(message);
  }
}

/** Codes that say that there was none must not be sent. */
function closeWith(
  side: Pick<WebSocket, "close" | "terminate"> | undefined,
  code: number,
  reason: string,
): void {
  if (code === codes.none) side?.close();
  else if (code === codes.broken) side?.terminate();
  else side?.close(code, reason);
}

/** For the HTTP server of the sandbox's side. */
export const webSocketHandler: Bun.WebSocketHandler<WebSocketRelay> = {
  idleTimeout: 0,
  backpressureLimit: WAITING_BYTES_MAX,
  closeOnBackpressureLimit: true,
  open: (local) => local.data.join(local),
  message: (local, message) => local.data.toRemote(message),
  close: (local, code, reason) => local.data.leave(code, reason),
};
