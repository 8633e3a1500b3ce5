import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { removeTree } from "@bureau/os/remove-tree";
import { makeMountPoint, nestedPoints } from "./mount-points.ts";
import type { ResolvedMount } from "./mount-policy.ts";

let folder: string;
let home: string;
let tool: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync("/tmp/bl-");
  home = join(folder, "home");
  tool = join(folder, "tool");
  file = join(folder, "file");
  for (const path of [home, tool, join(folder, "outside")]) mkdirSync(path);
  writeFileSync(file, "");
});
afterEach(() => removeTree(folder));

const bind = (source: string, dest: string, writable = true): ResolvedMount => ({
  type: "bind",
  source,
  dest,
  writable,
});
const prepare = (mounts: ResolvedMount[], folders: string[] = [], roots: string[] = []): void => {
  for (const point of nestedPoints(mounts, folders, roots)) makeMountPoint(point);
};

test("creates mount points inside a writable mount on the host's side", () => {
  prepare(
    [
      bind(home, "/workspace"),
      bind(tool, "/workspace/tools/own", false),
      bind(file, "/workspace/.config/file", false),
      { type: "tmpfs", dest: "/workspace/tmp" },
    ],
    ["/workspace", "/workspace/logs/today", "/data", "/workspace/../data"],
  );
  expect(readdirSync(home).sort()).toEqual([".config", "logs", "tmp", "tools"]);
  expect(lstatSync(join(home, ".config/file")).isFile()).toBe(true);
  for (const path of ["tools/own", "tmp", "logs/today"])
    expect(lstatSync(join(home, path)).isDirectory()).toBe(true);
});

test("refuses a link in the path, and does not follow it", () => {
  symlinkSync(join(folder, "outside"), join(home, "planted"));
  for (const dest of ["/workspace/planted", "/workspace/planted/deep"]) {
    expect(() => prepare([bind(home, "/workspace"), bind(tool, dest)])).toThrow("is a link");
    expect(() => prepare([bind(home, "/workspace")], [dest])).toThrow('"planted"');
  }
  expect(readdirSync(join(folder, "outside"))).toEqual([]);
});

test("a read-only mount of a folder that others write to must already have the mount point, not behind a link", () => {
  const shared = (dest: string) => () =>
    prepare([bind(home, "/shared", false), bind(tool, dest)], [], [folder]);
  expect(shared("/shared/tool")).toThrow("missing");
  expect(existsSync(join(home, "tool"))).toBe(false);
  mkdirSync(join(home, "tool"));
  expect(shared("/shared/tool")).not.toThrow();
  // No program inside writes to it: only the host does.
  expect(nestedPoints([bind(home, "/usr", false), bind(tool, "/usr/x")], [], [])).toEqual([]);
});

test("creates the mount point in the last mount over a path", () => {
  const tmpfs: ResolvedMount = { type: "tmpfs", dest: "/workspace/tmp" };
  expect(
    nestedPoints([bind(home, "/workspace"), tmpfs, bind(tool, "/workspace/tmp/x")], [], []),
  ).toHaveLength(1);
  const [, inner] = nestedPoints([bind(home, "/w"), bind(tool, "/w/t"), bind(file, "/w/t/f")], [], []);
  expect(inner).toMatchObject({ dest: "/w/t/f", kind: "file", in: { source: tool } });
});
