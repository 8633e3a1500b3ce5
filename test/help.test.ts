/** Help of the programs that ship: the same texts as the declarations give, from little more than the texts. */
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { root } from "../packages/cli/src/all-commands.ts";
import { type Command, type CommandGroup, isGroup } from "../packages/cli/src/command/command.ts";
import { commandHelp, groupHelp } from "../packages/cli/src/command/help.ts";

const build = resolve(import.meta.dirname, "../dist/current");
/** The texts of all help are 57 kB. */
const BUNDLE_BYTES_MAX = 80_000;

const folder = mkdtempSync(join(tmpdir(), "bureau-help-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
// Only what help may load: not the program.
const lib = join(folder, "lib/bureau");
mkdirSync(lib, { recursive: true });
for (const name of ["main.js", "main.js.jsc"]) cpSync(join(build, "lib/bureau", name), join(lib, name));

type Node = Command | CommandGroup;
const nodes = (node: Node, above: readonly string[] = []): [path: readonly string[], node: Node][] => {
  const path = [...above, node.name];
  return [[path, node], ...(isGroup(node) ? node.commands.flatMap((child) => nodes(child, path)) : [])];
};

function run(args: readonly string[]): { readonly code: number; readonly out: string; readonly err: string } {
  const done = Bun.spawnSync(runtimeCommand(join(lib, "main.js"), ...args), {
    env: { ...process.env, BUREAU_COMMAND: "bureau" },
  });
  return { code: done.exitCode, out: done.stdout.toString(), err: done.stderr.toString() };
}

test("help for every group and command is what its declaration gives, and loads no command", () => {
  for (const [path, node] of nodes(root)) {
    const text = isGroup(node) ? groupHelp(path, node) : commandHelp(path, node);
    if (text.includes("sudo bureau ")) continue;
    const words = path.slice(1);
    expect(run([...words, "--help"])).toEqual({ code: 0, out: `${text}\n`, err: "" });
  }
  const create = run(["agent", "create", "--help"]);
  for (const args of [
    ["help", "agent", "create"],
    ["agent", "help", "create"],
    ["agent", "create", "demo", "--command", "x", "-h"],
  ])
    expect(run(args)).toEqual(create);
});

test("anything else needs the program, which is not here", () => {
  for (const args of [
    ["version"],
    ["agent", "list"],
    ["agnt", "--help"],
    ["agent", "create", "--", "--help"],
  ])
    expect(run(args).err).toContain("program.js");
});

test("what help loads imports no module of the runtime and is little more than the texts", () => {
  const bundle = readFileSync(join(lib, "main.js"), "utf8");
  expect(bundle.match(/\brequire\("[^"]*"\)/gu) ?? []).toEqual([]);
  expect(bundle.length).toBeLessThan(BUNDLE_BYTES_MAX);
});
