/** Where programs are looked for. An entry that is no absolute path means the current folder, which others may write. */
export const absoluteEntries = (path: string): string =>
  path
    .split(":")
    .filter((entry) => entry.startsWith("/"))
    .join(":");

/** From now on, this process and its children look for programs only at absolute paths. */
export function useAbsolutePath(env: Record<string, string | undefined> = process.env): void {
  if (env["PATH"] !== undefined) env["PATH"] = absoluteEntries(env["PATH"]);
}
