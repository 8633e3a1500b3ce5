/** One long-lived connection that a program can hand to the next one: see streams.ts. */
import { closeSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";

/** A peer that does not read this much output is cut off. */
const UNSENT_BYTES_MAX = 1024 * 1024;

/** Handles one stream. No method may throw because of the peer's input: it ends the stream instead. */
export type StreamProtocol = {
  /** Input, which the protocol now owns. The bytes may change after the call. */
  data(bytes: Uint8Array): void;
  /** The peer sends no more; it may still read. */
  ended(): void;
  /**
   * All output is sent. Only called after `write` returned false, and for a stream that was handed over with output.
   */
  drained?(): void;
  /** The connection is closed, by either side. */
  closed?(): void;
  /**
   * The state that the next program needs to continue, as a CBOR value, with unused input. Must not change anything.
   */
  save(): unknown;
};

export type StreamStart = {
  /** The stream owns it from now on. */
  readonly fd: number;
  readonly unsent?: Uint8Array;
  readonly finishing?: boolean;
};

export class Stream {
  readonly fd: number;
  #waiting: Uint8Array[];
  #waitingBytes = 0;
  /** The peer gets an end of stream after the output. */
  #finishing: boolean;
  #paused = false;
  #closed = false;
  #socket: Bun.Socket | undefined;
  #onClosed: (error?: unknown) => void = () => {};
  #protocol: StreamProtocol | undefined;

  constructor({ fd, unsent = new Uint8Array(), finishing = false }: StreamStart) {
    this.fd = fd;
    this.#waiting = unsent.length === 0 ? [] : [unsent];
    this.#waitingBytes = unsent.length;
    this.#finishing = finishing;
  }

  /** Lets `protocol` use the connection; `input` comes before everything else. `onClosed` is called once. */
  start(protocol: StreamProtocol, input: Uint8Array | undefined, onClosed: (error?: unknown) => void): void {
    this.#protocol = protocol;
    this.#onClosed = onClosed;
    if (input !== undefined && input.length > 0) protocol.data(input);
    if (this.#closed) return;
    const options: Bun.FdSocketOptions<undefined> & { readonly data: undefined } = {
      fd: this.fd,
      allowHalfOpen: true,
      data: undefined,
      socket: {
        open: (socket) => this.#opened(socket),
        data: (_, bytes) => this.#guard(() => protocol.data(bytes)),
        drain: () => this.#flush(),
        end: () => this.#guard(() => protocol.ended()),
        close: () => this.#close(),
        error: (_, error) => this.#close(error),
      },
    };
    // The runtime takes a descriptor here; its types say so only of the options.
    Bun.connect(options as unknown as Bun.UnixSocketOptions<undefined>).catch((error: unknown) =>
      this.#drop(error),
    );
  }

  /** Sends `bytes` after all output before. @returns false when some of it has to wait: `drained` follows */
  write(bytes: Uint8Array): boolean {
    if (this.#closed || this.#finishing) return true;
    const sent = this.#waiting.length === 0 ? this.#send(bytes) : 0;
    if (sent === bytes.length) return true;
    // The caller may use its bytes again.
    this.#waiting.push(Uint8Array.from(bytes.subarray(sent)));
    this.#waitingBytes += bytes.length - sent;
    if (this.#waitingBytes > UNSENT_BYTES_MAX)
      this.#drop(new BureauError("too-large", `the peer does not read ${UNSENT_BYTES_MAX} bytes of output`));
    return false;
  }

  /** Output waits for the peer to read. */
  get isBlocked(): boolean {
    return this.#waiting.length > 0;
  }

  /** Reads no more until {@link resume}; the peer is slowed down by the kernel's buffer. */
  pause(): void {
    this.#paused = true;
    this.#socket?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#socket?.resume();
  }

  /** Ends the stream once all output is sent. */
  end(): void {
    this.#finishing = true;
    if (this.#waiting.length === 0) this.#socket?.end();
  }

  /** Closes the connection at once. */
  destroy(): void {
    this.#drop();
  }

  /** For the next program. */
  unsent(): { readonly unsent: Uint8Array; readonly finishing: boolean } {
    return { unsent: Uint8Array.from(Buffer.concat(this.#waiting)), finishing: this.#finishing };
  }

  #opened(socket: Bun.Socket): void {
    if (this.#closed) return void socket.terminate();
    this.#socket = socket;
    if (this.#paused) socket.pause();
    if (this.#waiting.length > 0) this.#flush();
    else if (this.#finishing) socket.end();
  }

  #send(bytes: Uint8Array): number {
    return Math.max(0, this.#socket?.write(bytes) ?? 0);
  }

  #flush(): void {
    if (this.#waiting.length === 0) return;
    while (this.#waiting[0] !== undefined) {
      const first = this.#waiting[0];
      const sent = this.#send(first);
      this.#waitingBytes -= sent;
      if (sent < first.length) {
        this.#waiting[0] = first.subarray(sent);
        return;
      }
      this.#waiting.shift();
    }
    if (this.#finishing) this.#socket?.end();
    else this.#guard(() => this.#protocol?.drained?.());
  }

  /** A bug in a protocol closes its stream, not the program. */
  #guard(act: () => void): void {
    if (this.#closed) return;
    try {
      act();
    } catch (error) {
      this.#drop(error);
    }
  }

  /** Closes the descriptor itself when the runtime has not taken it yet. */
  #drop(error?: unknown): void {
    if (this.#socket === undefined && !this.#closed) closeSync(this.fd);
    this.#close(error);
  }

  #close(error?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket?.terminate();
    this.#onClosed(error);
    this.#protocol?.closed?.();
  }
}
