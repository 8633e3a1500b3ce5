/** Durations as people type them: `500ms`, `30s`, `5m`, `24h`, `7d`. */
import { BureauError } from "./errors.ts";

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds. `flag` names the value in the error. @throws BureauError `invalid-input` */
export function parseDuration(value: string, flag: string): number {
  const match = /^(\d+)(ms|s|m|h|d)$/.exec(value);
  const ms = Number(match?.[1]) * (unitMs[match?.[2] ?? ""] ?? Number.NaN);
  if (!Number.isSafeInteger(ms))
    throw new BureauError("invalid-input", `${flag} "${value}" is not a duration such as 500ms, 30s or 24h`);
  return ms;
}
