/** The difference between two clocks, from one request. */

/**
 * The other clock minus ours, in milliseconds. `date` is in whole seconds, so 12 stands for anything up to 12.999: the middle
 * of that second is compared with the middle of the wait. A difference that the wait alone explains counts as none.
 */
export function skewOf(date: number, asked: number, answered: number): number {
  const difference = date + 500 - (asked + answered) / 2;
  return Math.sign(difference) * Math.max(0, Math.abs(difference) - (answered - asked) / 2);
}
