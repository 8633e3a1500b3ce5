import { afterAll, expect, test } from "bun:test";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildAt, buildOfProcessPath } from "./installed-build.ts";
import { requireTrustworthy } from "./require-trustworthy.ts";

const dist = join(import.meta.dir, "../../../../dist/current");
const folder = mkdtempSync(join(tmpdir(), "bureau-build-"));
afterAll(() => rmSync(folder, { recursive: true }));

const copy = (name: string): string => {
  const path = join(folder, name);
  cpSync(realpathSync(dist), path, { recursive: true });
  return path;
};

test("finds a build through links, with its real path", () => {
  expect(buildAt(dist).path).toBe(realpathSync(dist));
  expect(() => buildAt(join(folder, "none"))).toThrow("There is no build of Bureau");
});

test("a program that is started through a link, or through a link to its build, finds its build", async () => {
  mkdirSync(join(folder, "bin"));
  symlinkSync(join(realpathSync(dist), "bin/bureau"), join(folder, "bin/bureau"));
  symlinkSync(realpathSync(dist), join(folder, "current"));
  for (const path of [join(folder, "bin/bureau"), join(folder, "current/bin/bureau")]) {
    const { stdout, exitCode } = Bun.spawnSync([path, "version"]);
    expect([exitCode, stdout.toString()]).toEqual([0, expect.stringMatching(/\d+\.\d+\.\d+/)]);
  }
});

test("finds the build of a process from its runtime or its bundle", () => {
  expect(buildOfProcessPath("/var/bureau/builds/abc/runtime/bun")).toBe("/var/bureau/builds/abc");
  expect(buildOfProcessPath("/var/bureau/builds/abc/lib/bureau-daemon/main.js")).toBe(
    "/var/bureau/builds/abc",
  );
  expect(buildOfProcessPath("/usr/bin/python3")).toBeUndefined();
});

test("root refuses a build that every user may change, or in a folder where every user may replace it", () => {
  const path = copy("open");
  requireTrustworthy(path);
  for (const file of ["lib/bureau/main.js", "lib/bureau/main.js.jsc"]) {
    chmodSync(join(path, file), 0o666);
    expect(() => requireTrustworthy(path)).toThrow(file);
    chmodSync(join(path, file), 0o644);
  }
  chmodSync(folder, 0o777);
  expect(() => requireTrustworthy(path)).toThrow("can be changed without root");
  chmodSync(folder, 0o755);
});
