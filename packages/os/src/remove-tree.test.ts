import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { removeTree } from "./remove-tree.ts";

const isRoot = process.getuid?.() === 0;
const OVERFLOW_ID = 65534;
/** A folder in which `script` ran. Root may remove anything, so as root the test switches to another user. */
function ordinaryFolder(script = ":"): string {
  const folder = mkdtempSync("/tmp/bk-");
  if (isRoot) chownSync(folder, OVERFLOW_ID, OVERFLOW_ID);
  const as = isRoot ? ["setpriv", `--reuid=${OVERFLOW_ID}`, `--regid=${OVERFLOW_ID}`, "--clear-groups"] : [];
  expect(Bun.spawnSync([...as, "sh", "-c", script], { cwd: folder }).success).toBe(true);
  if (isRoot) process.seteuid?.(OVERFLOW_ID);
  return folder;
}
afterEach(() => {
  if (isRoot) process.seteuid?.(0);
});

test("removes folders without any permission, and keeps the targets of links in them", () => {
  const folder = ordinaryFolder();
  const kept = join(folder, "kept");
  mkdirSync(kept, { mode: 0o500 });
  const tree = join(folder, "tree");
  mkdirSync(join(tree, "a/b"), { recursive: true });
  writeFileSync(join(tree, "a/b/file"), "");
  symlinkSync(kept, join(tree, "a/link"));
  for (const path of ["a/b", "a", "."]) chmodSync(join(tree, path), 0);
  removeTree(tree);
  expect([existsSync(tree), existsSync(kept)]).toEqual([false, true]);
  removeTree(folder);
  expect(existsSync(folder)).toBe(false);
});

test("removes folders nested deeper than the longest path", () => {
  const nest = 'mkdir "$d" && cd -P "$d" || exit 1';
  const folder = ordinaryFolder(`d=$(printf %0200d 0); for i in $(seq 40); do ${nest}; done; chmod 0 .`);
  removeTree(folder);
  expect(existsSync(folder)).toBe(false);
});

test("a missing folder is not an error", () => {
  removeTree("/tmp/bureau-no-such-folder");
});
