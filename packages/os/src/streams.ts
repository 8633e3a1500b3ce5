/**
 * Long-lived connections that survive when their program replaces itself (os/exec).
 *
 * The peer keeps its connection: the next program continues on the same socket. Nothing is lost, doubled or reordered,
 * because bytes are in one of three places only:
 *
 * * in the kernel's buffers, which belong to the socket;
 * * unsent output in {@link Stream}, which is handed over with the descriptor;
 * * input that a protocol was given and has not used yet, which is part of the state that its `save` returns.
 *
 * The runtime must hold none. So a stream uses `Bun.Socket`, which writes without a buffer and passes all it has
 * read to `data` at once. Saving and exec happen in one turn of the event loop.
 *
 * ```
 * environment   BUREAU_STREAMS=<descriptor of a memory file>
 * memory file   {pid, streams: [{protocol, fd, unsent, finishing, state}]}   (CBOR)
 * ```
 */
import { closeSync, fstatSync, readSync, writeSync } from "node:fs";
import type { Socket } from "node:net";
import { decodeCbor } from "@bureau/kit/cbor";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { parse } from "@bureau/schema/parse";
import * as v from "valibot";
import { descriptorOf } from "./descriptor-of.ts";
import { FD_KEPT_LEAST } from "./exec.ts";
import { duplicate, memoryFile, setCloseOnExec } from "./posix.ts";
import { Stream, type StreamProtocol } from "./stream.ts";

const VARIABLE = "BUREAU_STREAMS";
/** Streams beyond this are refused: each costs a descriptor. */
const STREAMS_MAX = 256;

/**
 * Starts the protocol of one stream: a new one, or one that an earlier program handed over. `state` is what the action
 * that opened it passed, or what `save` returned there. It comes from another version: parse it.
 * @throws any error when it does not know `state`; then the stream is closed
 */
export type OpenProtocol = (stream: Stream, state: unknown) => StreamProtocol;

export type StreamsOptions = {
  /** By the name that is handed over. A name never changes its meaning between builds. */
  readonly protocols: Readonly<Record<string, OpenProtocol>>;
  readonly inherited: InheritedStreams;
  readonly log: Log;
};

/** What the next program needs. Disposing closes it here, when that program could not be executed. */
export type HandedStreams = Disposable & {
  /** For `replaceProcess`. */
  readonly keep: Readonly<Record<string, number>>;
  readonly keepInPlace: readonly number[];
};

const HandedSchema = v.object({
  pid: v.number(),
  streams: v.array(
    v.object({
      protocol: v.string(),
      fd: v.pipe(v.number(), v.integer(), v.minValue(FD_KEPT_LEAST)),
      unsent: v.custom<Uint8Array>((value) => value instanceof Uint8Array),
      finishing: v.boolean(),
      state: v.unknown(),
    }),
  ),
});
type Handed = v.InferOutput<typeof HandedSchema>["streams"][number];

type OpenStream = { readonly stream: Stream; readonly name: string; readonly protocol: StreamProtocol };

export class Streams implements Disposable {
  readonly #options: StreamsOptions;
  readonly #open = new Set<OpenStream>();
  #inherited: InheritedStreams;

  constructor(options: StreamsOptions) {
    this.#options = options;
    this.#inherited = options.inherited;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Continues the streams that were handed over. Call it once, when everything the protocols need is there. */
  adopt(): void {
    const inherited = this.#inherited;
    this.#inherited = [];
    for (const { protocol, fd, unsent, finishing, state } of inherited)
      this.#start(new Stream({ fd, unsent, finishing }), protocol, state);
  }

  /**
   * Makes a stream of an accepted connection to which nothing has been written yet. `rest` is input that arrived and
   * was not used. `socket` is closed; its peer does not see that. @throws BureauError `too-large` when there are too
   * many streams
   */
  take(socket: Socket, rest: Uint8Array, protocol: string, state: unknown): void {
    if (this.#open.size >= STREAMS_MAX)
      throw new BureauError("too-large", `Cannot open a stream: ${STREAMS_MAX} are open already`);
    const own = descriptorOf(socket);
    const fd = own === undefined ? undefined : duplicate(own, FD_KEPT_LEAST);
    const ahead: unknown = socket.read();
    socket.destroy();
    if (fd === undefined) return;
    const input = ahead instanceof Uint8Array ? Buffer.concat([rest, ahead]) : rest;
    this.#start(new Stream({ fd }), protocol, state, input);
  }

  #start(stream: Stream, name: string, state: unknown, input?: Uint8Array): void {
    const { protocols, log } = this.#options;
    const open = Object.hasOwn(protocols, name) ? protocols[name] : undefined;
    try {
      if (open === undefined) throw new BureauError("unsupported", `no stream protocol "${name}"`);
      const protocol = open(stream, state);
      const entry: OpenStream = { stream, name, protocol };
      this.#open.add(entry);
      stream.start(protocol, input, (error) => {
        this.#open.delete(entry);
        if (error !== undefined) log.error("stream.failed", "a stream failed", { protocol: name, error });
      });
    } catch (error) {
      log.warn("stream.refused", "a stream is closed: its protocol cannot continue it", {
        protocol: name,
        error,
      });
      stream.destroy();
    }
  }

  /**
   * Everything the next program needs to continue the streams. Nothing may happen between this and exec, so call exec
   * in the same turn of the event loop. When exec fails, the streams continue here.
   */
  handOver(): HandedStreams {
    const streams: Handed[] = [];
    for (const { stream, name, protocol } of this.#open) {
      const state = this.#save(protocol, name);
      const fd = state === undefined ? undefined : duplicate(stream.fd, FD_KEPT_LEAST);
      if (fd !== undefined) streams.push({ protocol: name, fd, ...stream.unsent(), state: state?.value });
    }
    // Streams that were claimed and not adopted yet belong to the next program, too.
    streams.push(...this.#inherited);
    const copies = streams.map(({ fd }) => fd).filter((fd) => !this.#inherited.some((one) => one.fd === fd));
    const keepInPlace = streams.map(({ fd }) => fd);
    if (streams.length === 0) return { keep: {}, keepInPlace, [Symbol.dispose]: () => {} };
    const file = memoryFile("bureau-streams");
    writeAll(file, encodeCbor({ pid: process.pid, streams }));
    return {
      keep: { [VARIABLE]: file },
      keepInPlace,
      [Symbol.dispose]() {
        for (const fd of [...copies, file]) closeSync(fd);
      },
    };
  }

  /** Undefined for a protocol with a bug: its stream ends with this program, and the others continue. */
  #save(protocol: StreamProtocol, name: string): { readonly value: unknown } | undefined {
    try {
      return { value: protocol.save() };
    } catch (error) {
      this.#options.log.error("stream.save-failed", "cannot hand over a stream", { protocol: name, error });
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#inherited) closeSync(fd);
    this.#inherited = [];
    for (const { stream } of this.#open) stream.destroy();
  }
}

/** Streams that an earlier program in this process handed over. */
export type InheritedStreams = readonly Handed[];

/** Call it before this program starts any other, which would inherit them. */
export function inheritedStreams(
  log: Log,
  env: Record<string, string | undefined> = process.env,
): InheritedStreams {
  const fd = Number(env[VARIABLE] ?? Number.NaN);
  delete env[VARIABLE];
  if (!(fd >= FD_KEPT_LEAST)) return [];
  try {
    const bytes = new Uint8Array(fstatSync(fd).size);
    readSync(fd, bytes, 0, bytes.length, 0);
    const { pid, streams } = parse(HandedSchema, decodeCbor(bytes), VARIABLE);
    if (pid !== process.pid) return [];
    for (const stream of streams) setCloseOnExec(stream.fd, true);
    closeSync(fd);
    return streams;
  } catch (error) {
    log.error("stream.claim-failed", "cannot read the streams that were handed over", { error });
    return [];
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
}
