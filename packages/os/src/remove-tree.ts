/**
 * Removes a tree that others may have written: also folders without any permission for their owner, or nested deeper
 * than the longest path. Uses chmod and rm, because both walk by open folders and follow no links.
 */
import { rmSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";

/** Error texts of chmod and rm contain paths of any length; the reason comes last. */
const COMPLAINT_CHARS_MAX = 200;

/** No error when `path` is missing. @throws BureauError `failed` when a part of it stays */
export function removeTree(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    run(["chmod", "-R", "u+rwx", "--", path]);
    const said = run(["rm", "-rf", "--one-file-system", "--", path]);
    if (said !== undefined) throw new BureauError("failed", `Cannot remove "${path}": ${said}`);
  }
}

/** @returns its error text, undefined when it succeeded */
function run(command: readonly string[]): string | undefined {
  const options = { cwd: "/", stdin: "ignore", stdout: "ignore", stderr: "pipe" } as const;
  const { success, stderr } = Bun.spawnSync([...command], options);
  return success ? undefined : stderr.toString().trim().slice(-COMPLAINT_CHARS_MAX);
}
