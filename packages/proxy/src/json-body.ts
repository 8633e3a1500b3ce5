/** Reads the JSON of a request or response up to a limit, independent of its Content-Length. */
import { BureauError } from "@bureau/kit/errors";

/** 64 KiB for agents (wire facts, section 12.3). */
export const AGENT_BODY_BYTES_MAX = 64 * 1024;
/** A directory lists every service of a fleet. */
export const ADMIN_BODY_BYTES_MAX = 1024 * 1024;

/** @throws BureauError `too-large`, or `invalid-input` when it is not JSON; the error never quotes the body */
export async function readJsonBody(
  request: Pick<Request | Response, "headers" | "body">,
  bytesMax: number,
): Promise<unknown> {
  const tooLarge = (): BureauError =>
    new BureauError("too-large", `the body has more than ${bytesMax} bytes`);
  if (Number(request.headers.get("content-length") ?? "0") > bytesMax) throw tooLarge();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const chunks: Uint8Array[] = [];
  let size = 0;
  if (request.body !== null)
    for await (const chunk of request.body) {
      size += chunk.length;
      if (size > bytesMax) throw tooLarge();
      chunks.push(chunk);
    }
  try {
    return JSON.parse(decoder.decode(Buffer.concat(chunks)));
  } catch {
    throw new BureauError("invalid-input", "the body is not JSON");
  }
}
