/** SHA-256 digests. */
import { createHash } from "node:crypto";
import { canonicalJson } from "@bureau/kit/canonical-json";

/** SHA-256 in hex. */
export const sha256Hex = (content: string | Uint8Array): string =>
  createHash("sha256").update(content).digest("hex");

/** SHA-256 of the canonical JSON, in hex. */
export const digestOf = (value: unknown): string => sha256Hex(canonicalJson(value));
