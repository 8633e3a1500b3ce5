import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ownBuild } from "./own-build.ts";
import { runtimeCommand } from "./runtime-command.ts";

const root = realpathSync(mkdtempSync(join(tmpdir(), "own-build-")));
afterAll(() => rmSync(root, { recursive: true, force: true }));

mkdirSync(join(root, "store/x/lib/x"), { recursive: true });
mkdirSync(join(root, "env/lib"), { recursive: true });
mkdirSync(join(root, "other/lib/x"), { recursive: true });
symlinkSync(join(root, "store/x/lib/x"), join(root, "env/lib/x"));
const bundle = join(root, "store/x/lib/x");

test("a program started through a build of links belongs to that build", () => {
  expect(ownBuild(bundle, join(root, "env/lib/x/main.js"))).toBe(join(root, "env"));
});

test("ignores a command line that leads to another bundle, or nowhere", () => {
  const own = join(root, "store/x");
  expect(ownBuild(bundle, join(root, "other/lib/x/main.js"))).toBe(own);
  expect(ownBuild(bundle, join(root, "gone/lib/x/main.js"))).toBe(own);
  expect(ownBuild(bundle, "lib/x/main.js")).toBe(own);
  expect(ownBuild(bundle, undefined)).toBe(own);
});

test("a running program finds its build on its own command line", () => {
  const kit = join(import.meta.dir, "own-build.ts");
  const code = `import { ownBuild } from ${JSON.stringify(kit)}; console.log(ownBuild(import.meta.dir));`;
  writeFileSync(join(bundle, "main.js"), code);
  const child = Bun.spawnSync(runtimeCommand(join(root, "env/lib/x/main.js"), "--flag"));
  expect(child.stdout.toString().trim()).toBe(join(root, "env"));
});
