/**
 * A program that replaces itself as the daemon does, with the same parts: observe.sock, its streams, and `become`. streams.test.ts bundles it as `bureau-daemon` of a build.
 *
 * ```
 * {"action":"status"}    → {ok, generation, pid, blocked, carried: …}   what the last program handed over
 * {"action":"count"}     → a stream: frames, each answered with the same frame and then with how many bytes came before
 * {"action":"replace"}   → {ok}; then it becomes the program in the folder of the request's `principal`
 * ```
 *
 * A frame is four bytes of length and as many of content. It is used when it is complete, so an upgrade finds parts of
 * frames; answers wait while the client does not read, so an upgrade finds unsent output.
 */
import { aborted, runProgram } from "@bureau/os/lifecycle";
import { createLog } from "@bureau/os/log";
import type { Stream, StreamProtocol } from "@bureau/os/stream";
import { inheritedStreams, Streams } from "@bureau/os/streams";
import { inheritedSockets } from "@bureau/os/systemd";
import * as v from "valibot";
import type { HandOver } from "../assembly/hand-over.ts";
import { serveObserve } from "../observe/observe-server.ts";
import { become } from "../upgrade/become.ts";

const GENERATION = "TEST_GENERATION";
const SOCKET = "observe.sock";
const HEADER_BYTES = 4;
const HAND_OVER_MS_MAX = 2_000;

const StateSchema = v.object({
  /** Bytes of complete frames so far. */
  total: v.number(),
  /** Of a frame that is not complete. */
  partial: v.custom<Uint8Array>((value) => value instanceof Uint8Array),
});

/** What the streams had when they came over from the last program. */
const carried = { streams: 0, partialBytes: 0, unsentBytes: 0 };

const open = new Set<Stream>();

function counting(stream: Stream, state: unknown): StreamProtocol {
  let { total, partial } = v.parse(StateSchema, state);
  if (total > 0) {
    carried.streams++;
    carried.partialBytes += partial.length;
    carried.unsentBytes += stream.unsent().unsent.length;
  }
  open.add(stream);
  if (stream.isBlocked) stream.pause();
  return {
    data(bytes) {
      let input = Buffer.concat([partial, bytes]);
      const answers: Buffer[] = [];
      while (input.length >= HEADER_BYTES) {
        const size = HEADER_BYTES + input.readUInt32BE(0);
        if (input.length < size) break;
        const before = Buffer.alloc(8);
        before.writeBigUInt64BE(BigInt(total));
        answers.push(input.subarray(0, size), before);
        total += size;
        input = input.subarray(size);
      }
      partial = Uint8Array.from(input);
      if (answers.length > 0 && !stream.write(Buffer.concat(answers))) stream.pause();
    },
    drained: () => stream.resume(),
    ended: () => stream.end(),
    closed: () => void open.delete(stream),
    save: () => ({ total, partial }),
  };
}

await runProgram("counting-program", async ({ signal, args }) => {
  const log = createLog("counting-program", { level: "warn" });
  const generation = Number(process.env[GENERATION] ?? 0);
  const [path = ""] = args;
  const passed = inheritedSockets([SOCKET]).get(SOCKET);
  const streams = new Streams({ protocols: { counting }, inherited: inheritedStreams(log), log });
  let fault = "";
  const observe = await serveObserve({
    listen: passed ?? { path, mode: 0o600 },
    actions: {
      status: async () => {
        const blocked = [...open].filter((stream) => stream.isBlocked).length;
        return { reply: { ok: true, generation, pid: process.pid, fault, blocked, carried } };
      },
      count: async () => ({
        stream: { protocol: "counting", state: { total: 0, partial: new Uint8Array() } },
      }),
      replace: async ({ principal = "" }) => {
        setTimeout(async () => {
          fault = await become(
            principal,
            { handOvers: [handOver], args, signal, log },
            { env: { [GENERATION]: String(generation + 1) } },
          );
        }, 0);
        return { reply: { ok: true } };
      },
    },
    streams,
    log,
  });
  const handOver: HandOver = {
    async give() {
      const socket = await observe.handOver(HAND_OVER_MS_MAX);
      if (socket === undefined) return "requests were under way for too long";
      return { sockets: [{ fd: socket.fd, name: SOCKET, isOurs: true }] };
    },
    streams: () => streams.handOver(),
    resume: () => observe.resume(),
  };
  streams.adopt();
  await aborted(signal);
  streams[Symbol.dispose]();
  await observe[Symbol.asyncDispose]();
});
