import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findInhabitants, mountsOf, originsOf, within } from "./mounts.ts";
import { makeFifo } from "./posix.ts";
import { argumentsOf, childrenOf } from "./process-table.ts";

let folder: string;
const started: Bun.Subprocess[] = [];

/** Runs bubblewrap and waits until `ready` is true. */
async function sandbox(args: string[], ready: (pid: number) => boolean): Promise<Bun.Subprocess> {
  const child = Bun.spawn(["bwrap", "--die-with-parent", "--ro-bind", "/", "/", ...args], {
    stdin: "ignore",
  });
  started.push(child);
  while (!ready(child.pid)) await Bun.sleep(2);
  return child;
}
const sleeps = (pid: number): boolean => childrenOf(pid).some((child) => argumentsOf(child)[0] === "sleep");
const pidsOf = (path: string): number[] => findInhabitants(path).map(({ pid }) => pid);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mounts-"));
  for (const name of ["mine", "other"]) mkdirSync(join(folder, name));
});
afterEach(async () => {
  for (const child of started.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
  rmSync(folder, { recursive: true });
});

test("finds processes that have a folder, or one below it, mounted, and no others", async () => {
  mkdirSync(join(folder, "mine", "deep"));
  const mine = await sandbox(["--bind", join(folder, "mine", "deep"), "/mnt", "--", "sleep", "1000"], sleeps);
  const other = await sandbox(["--bind", join(folder, "other"), "/mnt", "--", "sleep", "1000"], sleeps);
  expect(pidsOf(join(folder, "mine"))).toEqual(childrenOf(mine.pid));
  expect(pidsOf(join(folder, "other"))).toEqual(childrenOf(other.pid));
  symlinkSync(join(folder, "mine"), join(folder, "link"));
  expect(pidsOf(join(folder, "link"))).toEqual(childrenOf(mine.pid));
});

test("finds a bubblewrap that waits at a gate in the folder after its parent was killed", async () => {
  const gate = join(folder, "mine", "gate");
  makeFifo(gate, 0o600);
  const script = 'exec bwrap --ro-bind / / --block-fd 5 -- sleep 1000 5<>"$0"';
  const child = Bun.spawn(["sh", "-c", script, gate], { stdin: "ignore" });
  started.push(child);
  while (childrenOf(child.pid).length === 0) await Bun.sleep(2);
  const inner = childrenOf(child.pid);
  child.kill("SIGKILL");
  await child.exited;
  expect(pidsOf(join(folder, "mine"))).toEqual(inner);
  for (const pid of inner) process.kill(pid, "SIGKILL");
});

test("reads a folder's place in its file system from the mount table", () => {
  const [origin] = originsOf(mountsOf("self"), folder);
  expect(origin).toMatch(/^\d+:\d+ \/.*mounts-/);
  expect(within("/a/b", "/a")).toBe(true);
  expect(within("/ab", "/a")).toBe(false);
});
