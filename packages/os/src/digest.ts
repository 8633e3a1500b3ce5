/** SHA-256 digests, by the runtime's own hasher: importing node:crypto takes longer than starting the runtime. */
import { canonicalJson } from "@bureau/kit/canonical-json";

/** SHA-256 in hex. */
export const sha256Hex = (content: string | Uint8Array): string =>
  new Bun.CryptoHasher("sha256").update(content).digest("hex");

/** SHA-256 of the canonical JSON, in hex. */
export const digestOf = (value: unknown): string => sha256Hex(canonicalJson(value));
