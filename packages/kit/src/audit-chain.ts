/** How audit events are chained: the one definition of their hash, for the machine that writes and the reader that verifies. */
import type { AuditRecord, ChainedAudit, ChainHead } from "@bureau/schema/audit";
import { canonicalJson } from "./canonical-json.ts";

/** SHA-256 of a text's UTF-8, in hex. */
export type Sha256Hex = (text: string) => string;

/** The hash that a content must carry: over everything in it but the hash, known fields or not. */
export function hashOfAudit(content: Readonly<Record<string, unknown>>, sha256Hex: Sha256Hex): string {
  const { hash: _, ...rest } = content;
  return sha256Hex(canonicalJson(rest));
}

export type Times = Pick<ChainedAudit, "time" | "last_time" | "count">;

/** The next event of a chain whose last one is `head`. */
export function chained(
  record: AuditRecord,
  times: Times,
  head: ChainHead,
  sha256Hex: Sha256Hex,
): ChainedAudit {
  const content = {
    ...record,
    ...times,
    chain: head.chain,
    sequence: head.sequence + 1,
    previous: head.hash,
  };
  return { ...content, hash: hashOfAudit(content, sha256Hex) };
}
