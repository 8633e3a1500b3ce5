import { expect, test } from "bun:test";
import { checkLayoutPaths, namesOf } from "./layout-paths.ts";

const names = namesOf([
  'const a = join(dir, "machine-key.txt"); const b = `$' + "{component}-watchdog.cbor`;",
]);
const check = (source: string, path = "packages/cli/src/a.ts") => checkLayoutPaths(path, source, names);

test("refuses a folder of ours, a socket and a file that the layout names", () => {
  expect(check('\nconst a = "/run/bureau";')).toEqual([
    'packages/cli/src/a.ts:2: spells "/run/bureau": take the path from packages/os/src/layout.ts or packages/schema/src/inside-paths.ts',
  ]);
  for (const source of [
    "const a = '/var/lib/bureau/x';",
    "const a = `see /etc/bureau/x`;",
    'const a = "/var/bureau/cache";',
    'const a = join(b, "other.sock");',
    "const a = `$" + "{dir}/observe.sock`;",
    'const a = join(b, "machine-key.txt");',
  ])
    expect(check(source), source).toHaveLength(1);
});

test("accepts other files, comments, tests, test support and the layout itself", () => {
  for (const source of [
    'const a = "build.json";',
    "// /run/bureau",
    "/** /etc/bureau */",
    'const a = "/run/bureaucracy";',
  ])
    expect(check(source), source).toEqual([]);
  for (const path of [
    "packages/os/src/layout.ts",
    "packages/cli/src/a.test.ts",
    "packages/cli/src/testing/a.ts",
    "packages/testkit/src/a.ts",
    "docs/a.md",
    "test/a.ts",
  ])
    expect(check('const a = "/run/bureau";', path), path).toEqual([]);
});
