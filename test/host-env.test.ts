/** A build as a plain folder; test/lab/host-env.lab.test.ts builds it with Nix. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { faultOf, readBuild } from "@bureau/os/build";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { bureauCommand } from "@bureau/testkit/bureau";
import type { Manifest } from "../scripts/build.ts";
import { makeHostEnv } from "../scripts/host-env.ts";

const script = join(import.meta.dir, "../scripts/host-env.ts");
const build = realpathSync(join(bureauCommand, "../.."));
let out: string;
beforeAll(() => {
  // Beside the build: files are shared within a file system, and /tmp may be another.
  out = mkdtempSync(join(build, "../../host-env-"));
});
afterAll(() => rmSync(out, { recursive: true, force: true }));

const make = (stamp?: string, from = build): string => makeHostEnv({ build: from, stamp, out, nix: false });
const manifest = (path: string): Manifest =>
  JSON.parse(readFileSync(join(path, "build.json"), "utf8")) as Manifest;

test("is a normal build and shares its files", () => {
  const path = make();
  expect(readBuild(path).id).toBe(readBuild(build).id);
  expect(faultOf(readBuild(path))).toBeUndefined();
  expect(statSync(join(path, "runtime/bun")).ino).toBe(statSync(join(build, "runtime/bun")).ino);
});

test("a stamp changes every program, but neither the original build nor the runtime", () => {
  const before = readFileSync(join(build, "lib/bureau-proxy/main.js"), "utf8");
  const path = make("try one");
  expect(faultOf(readBuild(path))).toBeUndefined();
  for (const [name, { sha256 }] of Object.entries(manifest(build).programs))
    expect(manifest(path).programs[name]?.sha256).not.toBe(sha256);
  expect(manifest(path).state).toEqual(manifest(build).state);
  expect(readFileSync(join(build, "lib/bureau-proxy/main.js"), "utf8")).toBe(before);
  expect(faultOf(readBuild(build))).toBeUndefined();
  expect(statSync(join(path, "runtime/bun")).ino).toBe(statSync(join(build, "runtime/bun")).ino);
  const said = Bun.spawnSync([join(path, "bin/bureau"), "version"]).stdout.toString();
  expect(said).toContain(manifest(path).programs["bureau-proxy"]?.sha256.slice(0, 12) ?? "?");
});

test("the same build and stamp give the same path; another stamp gives another", () => {
  expect(make("try one")).toBe(make("try one"));
  expect(make("try one")).not.toBe(make("try two"));
  expect(make("try one")).not.toBe(make());
  expect(readdirSync(out)).toEqual(["folders"]);
});

test("refuses a stamp that is not one line of text", () => {
  for (const stamp of ["two\nlines", "two\u2028lines", "\0"]) expect(() => make(stamp)).toThrow("one line");
  expect(readdirSync(out)).toEqual(["folders"]);
});

test("prints only the path on standard output", () => {
  const args = ["--print", "--stamp", "said", "--build", build, "--out", out, "--no-nix"];
  const done = Bun.spawnSync(runtimeCommand(script, ...args));
  expect(done.stdout.toString()).toBe(`${make("said")}\n`);
  expect(done.exitCode).toBe(0);
});

test("a changed bundle gives another build", () => {
  const folder = make("to be changed");
  const path = join(folder, "lib/bureau-proxy/main.js");
  const changed = `${readFileSync(path, "utf8")}//\n`;
  // The file is the shipped build's too, which must not change.
  rmSync(path);
  writeFileSync(path, changed);
  expect(faultOf(readBuild(folder))).toContain("bureau-proxy");
  expect(faultOf(readBuild(build))).toBeUndefined();
});
