/** The launcher script of a program finds its build for every way of calling it. */
import { afterAll, expect, test } from "bun:test";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { argumentsOf } from "@bureau/os/process-table";
import { bureauCommand } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";

const root = realpathSync(mkdtempSync(join(tmpdir(), "bureau script-")));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const build = realpathSync(join(bureauCommand, "../.."));

/** Like Nix, which merges one store path per part: every entry is a link into its part. */
const env = join(root, "env");
mkdirSync(join(env, "lib"), { recursive: true });
mkdirSync(join(root, "part"));
cpSync(join(build, "bin"), join(root, "part/bin"), { recursive: true });
symlinkSync(join(root, "part/bin"), join(env, "bin"));
for (const name of ["runtime", "build.json"]) symlinkSync(join(build, name), join(env, name));
for (const name of readdirSync(join(build, "lib"))) {
  cpSync(join(build, "lib", name), join(root, "part", name, "lib", name), { recursive: true });
  symlinkSync(join(root, "part", name, "lib", name), join(env, "lib", name));
}

const linked = (at: string, target: string): string => {
  const path = join(root, at);
  mkdirSync(join(path, ".."), { recursive: true });
  symlinkSync(target, path);
  return path;
};

function run(command: string, cwd = root): { code: number; out: string; error: string } {
  const child = Bun.spawnSync(["/bin/sh", "-c", command], { cwd, env: { PATH: "/usr/bin:/bin" } });
  return { code: child.exitCode, out: child.stdout.toString(), error: child.stderr.toString() };
}

const calls: readonly (readonly [string, () => string, (() => string)?])[] = [
  ["by its whole path", () => `'${env}/bin/bureau'`],
  ["from the folder above", () => "bin/bureau", () => env],
  ["from its own folder", () => `cd '${env}/bin' && ./bureau`],
  ["by a path with dots in it", () => `cd '${env}/lib' && ../bin/bureau`],
  ["through PATH", () => `PATH='${env}/bin':$PATH; bureau`],
  ["through PATH, relative", () => "PATH=bin:$PATH; bureau", () => env],
  ["as an argument of sh", () => "sh ./bin/bureau", () => env],
  ["through a link", () => `'${linked("people/bureau", join(env, "bin/bureau"))}'`],
  ["through a relative link", () => `'${linked("near/bureau", "../env/bin/bureau")}'`],
  [
    "through a link to a link",
    () => `'${linked("far/bureau", linked("middle/bureau", "../env/bin/bureau"))}'`,
  ],
  ["through a link to its folder", () => `'${linked("commands", join(env, "bin"))}/bureau'`],
  ["through a link to its build", () => `'${linked("programs/current", env)}/bin/bureau'`],
  ["through a folder that is reached by a link", () => `'${linked("elsewhere", root)}/env/bin/bureau'`],
];

for (const [how, command, cwd] of calls)
  test(`it is called ${how}`, () => {
    const said = run(`${command()} version`, cwd?.());
    expect(said.error).toBe("");
    expect(said.out).toStartWith("bureau ");
    expect(said.code).toBe(0);
  });

test("a running program keeps its build when the link to it moves", async () => {
  const link = linked("moving", env);
  const child = Bun.spawn([join(link, "bin/bureau-greeter")], { stdout: "ignore", stderr: "ignore" });
  try {
    const main = await eventually(async () =>
      argumentsOf(child.pid).find((word) => word.endsWith("/lib/bureau-greeter/main.js")),
    );
    const before = realpathSync(main);
    mkdirSync(join(root, "next/lib/bureau-greeter"), { recursive: true });
    writeFileSync(join(root, "next/lib/bureau-greeter/main.js"), "");
    rmSync(link);
    symlinkSync(join(root, "next"), link);
    // Its path does not contain the link, so later reads use the same build.
    expect([main, realpathSync(main)]).toEqual([`${env}/lib/bureau-greeter/main.js`, before]);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
});

test("runs the programs of the environment, not of one of its parts", () => {
  const { out } = run(`'${env}/bin/bureau' version --json`);
  expect(Object.keys((JSON.parse(out) as { programs: object }).programs)).toContain("bureau-daemon");
});

test("a script outside of a build reports that", () => {
  cpSync(join(build, "bin/bureau"), join(root, "alone/bin/bureau"));
  const said = run(`'${root}/alone/bin/bureau' version`);
  expect(said).toEqual({
    code: 127,
    out: "",
    error: `bureau: there is no build of Bureau around ${root}/alone/bin/bureau\n`,
  });
});
