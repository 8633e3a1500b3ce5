/** The search path of programs. A relative entry depends on the current folder, which others may write to. */
export const absoluteEntries = (path: string): string =>
  path
    .split(":")
    .filter((entry) => entry.startsWith("/"))
    .join(":");

/** Removes relative entries from this process's PATH, which its children inherit. */
export function useAbsolutePath(env: Record<string, string | undefined> = process.env): void {
  if (env["PATH"] !== undefined) env["PATH"] = absoluteEntries(env["PATH"]);
}
