/**
 * Why a homeserver refused, in a sentence; the protocol's own words stand behind it, for who looks them up:
 * `not yours (403 M_FORBIDDEN)`.
 */
export function refusedBecause(status: number, errcode: string, reason: string): string {
  const sentence = reason.replace(/[.\s]+$/u, "");
  const code = errcode === "" ? `HTTP ${status}` : `${status} ${errcode}`;
  return `${sentence === "" ? "the homeserver gives no reason" : sentence} (${code})`;
}
