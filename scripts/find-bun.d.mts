/** The checkout's folder. */
export const root: string;
/** What the runtime is started with. */
export const runtimeArguments: readonly string[];
/** The path of the Bun executable, or undefined when dependencies are not installed. */
export function findBun(): string | undefined;
