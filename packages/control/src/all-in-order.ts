/** Waits for all, and throws the error of the first that failed in the order of the list: the same error each time. */
export async function allInOrder<const T extends readonly unknown[]>(
  asked: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(asked);
  return await Promise.all(asked);
}
