/** Statistics: quantiles of samples, and their printed form. */

/** The value below which `fraction` of the samples lie (nearest rank). */
export function quantile(samples: readonly number[], fraction: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))] ?? Number.NaN;
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5);

/** The line `base + slope·x` of least squares through the points. */
export function fitLine(points: readonly { readonly x: number; readonly y: number }[]): {
  readonly base: number;
  readonly slope: number;
} {
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  const [x, y] = [mean(points.map((point) => point.x)), mean(points.map((point) => point.y))];
  const covariance = mean(points.map((point) => (point.x - x) * (point.y - y)));
  const slope = covariance / mean(points.map((point) => (point.x - x) ** 2));
  return { base: y - slope * x, slope };
}

/** Rounded for reading: three significant digits. */
const round = (value: number): number => Number(value.toPrecision(3));

/** One line of a report: the measurement, its value, its reference. */
export type Figure = {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The floor or peer, and the ratio to it. */
  readonly against?: { readonly name: string; readonly value: number; readonly ratio: number };
  readonly aim?: string;
  /**
   * The ratio that only a lost order of magnitude exceeds: the short form fails beyond it. Far above the aim, because it
   * holds on a crowded machine as well.
   */
  readonly ratioMax?: number;
};

export const figure = (
  name: string,
  value: number,
  unit: string,
  against?: { readonly name: string; readonly value: number },
  aim?: string,
  ratioMax?: number,
): Figure => ({
  name,
  value: round(value),
  unit,
  ...(against === undefined
    ? {}
    : { against: { name: against.name, value: round(against.value), ratio: round(value / against.value) } }),
  ...(aim === undefined ? {} : { aim }),
  ...(ratioMax === undefined ? {} : { ratioMax }),
});
