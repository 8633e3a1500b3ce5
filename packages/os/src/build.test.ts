import { afterAll, expect, test } from "bun:test";
import { appendFileSync, chmodSync, cpSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { faultOf, readBuild, wholeFaultOf } from "./build.ts";

const dist = join(import.meta.dir, "../../../dist/current");
const folder = mkdtempSync(join(tmpdir(), "bureau-build-"));
afterAll(() => rmSync(folder, { recursive: true }));

const copy = (name: string): string => {
  const path = join(folder, name);
  cpSync(realpathSync(dist), path, { recursive: true });
  return path;
};

test("the shipped build is complete and named by its id; a changed or missing file is a fault", async () => {
  const environment = readBuild(realpathSync(dist));
  expect(faultOf(environment)).toBeUndefined();
  expect(environment.path.endsWith(environment.id)).toBe(true);
  const changed = copy("changed");
  appendFileSync(join(changed, "lib/bureau-proxy/main.js"), "//");
  expect(faultOf(readBuild(changed))).toContain("lib/bureau-proxy does not match its manifest");
  const bytecode = copy("bytecode");
  appendFileSync(join(bytecode, "lib/bureau-proxy/main.js.jsc"), "x");
  expect(faultOf(readBuild(bytecode))).toContain("lib/bureau-proxy does not match its manifest");
  rmSync(join(changed, "lib/bureau-daemon"), { recursive: true });
  expect(faultOf(readBuild(changed))).toBeDefined();
  const other = copy("other");
  expect(await wholeFaultOf(readBuild(other))).toBeUndefined();
  appendFileSync(join(other, "runtime/bun"), "x");
  expect(await wholeFaultOf(readBuild(other))).toContain("runtime does not match its manifest");
  chmodSync(join(changed, "runtime/bun"), 0o644);
  expect(faultOf(readBuild(changed))).toContain("runtime");
  expect(() => readBuild(join(folder, "none"))).toThrow("There is no build of Bureau");
});
