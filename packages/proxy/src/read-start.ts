/** Reads a proxy's configuration from standard input: one CBOR map, then end of file. Refuses any other input. */
import { decodeCbor } from "@bureau/kit/cbor";
import { BureauError } from "@bureau/kit/errors";
import { ProxyStartSchema } from "@bureau/schema/proxy-wire";
import type { InferOutput } from "valibot";
import { parseSecretly } from "./parse-secretly.ts";

/** Far more than the grants, upstreams and keys of one principal need. */
const START_BYTES_MAX = 4 * 1024 * 1024;

/** Reads to the end of `stream`. @throws BureauError `invalid-input`, `too-large`; the error never quotes a value */
export async function readStart(
  stream: ReadableStream<Uint8Array>,
): Promise<InferOutput<typeof ProxyStartSchema>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > START_BYTES_MAX)
      throw new BureauError(
        "too-large",
        `Cannot start: standard input has more than ${START_BYTES_MAX} bytes`,
      );
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  try {
    return parseSecretly(ProxyStartSchema, decode(bytes), "proxy start on standard input");
  } finally {
    // The proxy uses the decoded strings. The encoded bundle must not stay in memory beside them.
    bytes.fill(0);
    for (const chunk of chunks) chunk.fill(0);
  }
}

function decode(bytes: Uint8Array): unknown {
  try {
    return decodeCbor(bytes);
  } catch {
    throw new BureauError(
      "invalid-input",
      `Cannot start: standard input (${bytes.length} bytes) is not one complete CBOR map`,
    );
  }
}
