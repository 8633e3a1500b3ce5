import { expect, test } from "bun:test";
import { relative, resolve } from "node:path";
import { programs } from "../../../../scripts/programs.ts";

const root = resolve(import.meta.dirname, "../../../..");
/** Importing one of them brings all of Node's streams with it, which takes longer than starting the runtime. */
const slow = /^(?:node:)?(?:crypto|net|tls|https?|stream|zlib)(?:\/|$)/u;

/** Modules of the runtime that `entry` imports before it runs, each with the file that imports it. */
async function builtinsOf(entry: string): Promise<string[]> {
  const result = await Bun.build({ entrypoints: [resolve(root, entry)], target: "bun", metafile: true });
  const inputs = new Map(
    Object.entries(result.metafile?.inputs ?? {}).map(([path, input]) => [resolve(path), input]),
  );
  const found: string[] = [];
  const seen = new Set<string>();
  const waiting = [resolve(root, entry)];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    for (const imported of inputs.get(path)?.imports ?? []) {
      if (imported.kind === "dynamic-import") continue;
      if (inputs.has(resolve(imported.path))) waiting.push(resolve(imported.path));
      else found.push(`${imported.path} in ${relative(root, path)}`);
    }
  }
  expect(seen.size).toBeGreaterThan(10);
  return found;
}

for (const command of ["agent/list", "template/list", "machine/list", "command/operator"])
  test(`${command} imports no slow module of the runtime before it runs`, async () => {
    const builtins = await builtinsOf(`packages/cli/src/${command}.ts`);
    expect(builtins.length).toBeGreaterThan(0);
    expect(builtins.filter((name) => slow.test(name))).toEqual([]);
  });

test("the proxy imports none of them either; the same search finds the launcher's node:net", async () => {
  expect((await builtinsOf(programs["bureau-proxy"])).filter((name) => slow.test(name))).toEqual([]);
  expect((await builtinsOf(programs["bureau-launcher"])).join()).toContain(
    "net in packages/os/src/acceptor.ts",
  );
});
