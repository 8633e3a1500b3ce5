import type { Socket } from "node:net";
import { CborScanner } from "@bureau/kit/cbor";
import { BureauError, type ErrorCode, messageOf } from "@bureau/kit/errors";

/** 1 MiB each way (wire facts, section 6.1). */
export const MESSAGE_BYTES_MAX = 1024 * 1024;

/** Reads one CBOR value. Rejects when it is too large, malformed, late, or cut off (with the code given for that). */
export function readCbor(
  socket: Socket,
  timeoutMs: number,
  what: string,
  cutOff: ErrorCode,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const scanner = new CborScanner();
    const chunks: Buffer[] = [];
    let size = 0;
    const finish = (error: BureauError | undefined, value?: Uint8Array): void => {
      clearTimeout(timer);
      socket.off("data", onData);
      // Stay in flowing mode so that a hang-up is noticed while the request is being handled.
      socket.resume();
      if (value !== undefined) resolve(value);
      else reject(error);
    };
    const fail = (code: ErrorCode, text: string): void => finish(new BureauError(code, text));
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      size += chunk.length;
      try {
        const length = scanner.push(chunk);
        if ((length ?? size) > MESSAGE_BYTES_MAX)
          fail("too-large", `the ${what} has more than ${MESSAGE_BYTES_MAX} bytes`);
        else if (length !== undefined) finish(undefined, Buffer.concat(chunks).subarray(0, length));
      } catch (error) {
        fail("invalid-input", `invalid ${what}: ${messageOf(error)}`);
      }
    };
    const timer = setTimeout(() => fail("timeout", `no complete ${what} within ${timeoutMs} ms`), timeoutMs);
    socket.on("data", onData);
    socket.once("end", () => fail(cutOff, `invalid ${what}: the connection ended before it was complete`));
    socket.once("error", (error) => fail("unavailable", `the connection failed: ${messageOf(error)}`));
    socket.once("close", () => fail("unavailable", `the connection closed before the ${what} was complete`));
  });
}
