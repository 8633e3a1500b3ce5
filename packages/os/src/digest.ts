/** Digests over JSON values. */
import { createHash } from "node:crypto";
import { canonicalJson } from "@bureau/kit/canonical-json";

/** SHA-256 of the canonical JSON, in hex. */
export const digestOf = (value: unknown): string =>
  createHash("sha256").update(canonicalJson(value)).digest("hex");
