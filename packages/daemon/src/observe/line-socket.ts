/**
 * A socket on which each side first sends one line of JSON. What comes after the first line is kept, so that a request
 * which turns the connection into a stream of bytes loses none.
 */
import type { Socket } from "node:net";
import { BureauError } from "@bureau/kit/errors";
import { OBSERVE_LINE_BYTES_MAX } from "@bureau/schema/observe-wire";

/** The first line, and what arrived behind it. @throws BureauError `timeout`, `too-large` or `unavailable` */
export function readLine(socket: Socket, timeoutMs: number): Promise<{ line: string; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const stop = (): void => {
      clearTimeout(timer);
      socket.off("data", onData).off("end", onEnd).off("error", onEnd).off("close", onEnd);
      socket.pause();
    };
    const fail = (code: "timeout" | "too-large" | "unavailable", message: string): void => {
      stop();
      reject(new BureauError(code, message));
    };
    const onEnd = (): void => fail("unavailable", "The connection ended within the request");
    const onData = (chunk: Buffer): void => {
      const newline = chunk.indexOf(0x0a);
      size += newline < 0 ? chunk.length : newline;
      if (size > OBSERVE_LINE_BYTES_MAX) {
        fail("too-large", `The request has more than ${OBSERVE_LINE_BYTES_MAX} bytes`);
        return;
      }
      chunks.push(newline < 0 ? chunk : chunk.subarray(0, newline));
      if (newline < 0) return;
      stop();
      resolve({ line: Buffer.concat(chunks).toString("utf8"), rest: chunk.subarray(newline + 1) });
    };
    const timer = setTimeout(() => fail("timeout", `No request within ${timeoutMs} ms`), timeoutMs);
    socket.on("data", onData).on("end", onEnd).on("error", onEnd).on("close", onEnd);
  });
}
