/** The checkout's folder. */
export const root: string;
/** The path of the Bun executable, or undefined when dependencies are not installed. */
export function findBun(): string | undefined;
