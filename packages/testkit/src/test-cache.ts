/** Where tests keep what they download or build once and use in every run: outside the repository. */
import { homedir } from "node:os";
import { join } from "node:path";

/** `$BUREAU_TEST_CACHE/NAME`, else `NAME` in `bureau-test` of the user's cache folder. Nothing is made. */
export function testCache(name: string): string {
  const cache = process.env["BUREAU_TEST_CACHE"];
  if (cache !== undefined && cache !== "") return join(cache, name);
  const xdg = process.env["XDG_CACHE_HOME"];
  return join(xdg !== undefined && xdg !== "" ? xdg : join(homedir(), ".cache"), "bureau-test", name);
}
