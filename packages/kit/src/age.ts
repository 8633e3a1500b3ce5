/** Instants as people read them: the instant itself, and how long ago that was. `--json` has the instant alone. */

const steps = [
  { ms: 86_400_000, unit: "d" },
  { ms: 3_600_000, unit: "h" },
  { ms: 60_000, unit: "min" },
  { ms: 1_000, unit: "s" },
] as const;

/** `3 min ago`, `in 24 h`, `now`; in the largest unit of which it is at least one. */
export function age(instant: number, now: number): string {
  const passed = now - instant;
  const step = steps.find(({ ms }) => Math.abs(passed) >= ms);
  if (step === undefined) return "now";
  // Never more than has passed, nor less than is left.
  return passed > 0
    ? `${Math.floor(passed / step.ms)} ${step.unit} ago`
    : `in ${Math.ceil(-passed / step.ms)} ${step.unit}`;
}

/** `2026-01-31T09:30:00Z (3 min ago)`; returns other text unchanged. */
export function withAge(instant: string, now: number): string {
  const ms = Date.parse(instant);
  return Number.isNaN(ms) ? instant : `${new Date(ms).toISOString().slice(0, 19)}Z (${age(ms, now)})`;
}
