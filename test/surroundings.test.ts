/**
 * Files in a program's working directory do not change its behaviour: neither files that the runtime reads nor files that a
 * shell reads. A user who can write there, such as an agent in its workspace, cannot run code as the caller.
 */
import { afterAll, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { argumentsFor, readBuild, runtimeOf } from "@bureau/os/build";
import { evalCommand, runtimeCommand } from "@bureau/os/runtime-command";
import { bureauCommand } from "@bureau/testkit/bureau";
import type { programs } from "../scripts/programs.ts";

const root = realpathSync(mkdtempSync(join(tmpdir(), "bureau-hostile-")));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const build = realpathSync(join(bureauCommand, "../.."));
const checkout = join(import.meta.dirname, "..");

/** A file of the folder leaves this mark when it is executed. */
const mark = join(root, "ran");
/** Set by a file of variables. The proxy refuses to start with it. */
const variable = "BUN_CONFIG_VERBOSE_FETCH=curl\nBUREAU_HOME=/from/the/folder\nBUREAU_LOG=debug\n";

/** Every file of a folder that the runtime, Node, npm or a shell may read. */
function hostile(folder: string): string {
  const evil = join(folder, "evil.ts");
  const files: Record<string, string> = {
    "evil.ts": `require("node:fs").writeFileSync(${JSON.stringify(mark)}, process.argv.join(" "));`,
    "bunfig.toml": 'preload = ["./evil.ts"]\n[run]\nbun = true\n',
    ".bunfig.toml": 'preload = ["./evil.ts"]\n',
    ".env": variable,
    ".env.local": variable,
    ".env.development": variable,
    ".env.production": variable,
    ".npmrc": `node-options=--require=${evil}\n`,
    "tsconfig.json": '{"compilerOptions":{"paths":{"*":["./evil.ts"]}}}',
    "jsconfig.json": '{"compilerOptions":{"paths":{"*":["./evil.ts"]}}}',
    "package.json":
      '{"name":"util","main":"./evil.ts","browser":{"*":"./evil.ts"},"imports":{"*":"./evil.ts"}}',
    "node_modules/util/index.ts": `import ${JSON.stringify(evil)};`,
    ...Object.fromEntries(
      ["bun", "node", "readlink", "find", "dirname", "sh"].map((name) => [
        name,
        `#!/bin/sh\necho ${name} > '${mark}'\n`,
      ]),
    ),
  };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
    chmodSync(join(folder, name), 0o755);
  }
  return folder;
}

/** In a folder below it too: the runtime also reads parent folders. */
const folder = join(hostile(join(root, "workspace")), "below");
mkdirSync(folder);
const home = hostile(join(root, "home"));

/** The first line it prints, without times and pids. Kills a program that does not end by itself. */
async function run(command: readonly string[], cwd: string): Promise<string> {
  rmSync(mark, { force: true });
  const child = Bun.spawn(["sh", "-c", 'exec "$@" 2>&1', "sh", ...command], {
    cwd,
    env: {
      PATH: "/usr/local/bin:/usr/bin:/bin",
      HOME: home,
      XDG_CONFIG_HOME: home,
      BUREAU_HOME: join(root, "none"),
    },
    stdin: "ignore",
    stdout: "pipe",
  });
  const first = await child.stdout.getReader().read();
  child.kill("SIGKILL");
  await child.exited;
  const [line = ""] = Buffer.from(first.value ?? [])
    .toString()
    .split("\n", 1);
  return line.replaceAll(/\d+/gu, "0");
}

/** Each with arguments that make it print a line at once. */
const ends: Record<keyof typeof programs, readonly string[]> = {
  bureau: ["version"],
  "bureau-supervisor": ["--help"],
  "bureau-launcher": ["--version"],
  "bureau-first-boot": ["--version"],
  "bureau-daemon": ["--version"],
  "bureau-homeserver": ["--data-dir", "/dev/null"],
  "bureau-proxy": ["--sandbox", "x", "--run-dir", "/nonexistent"],
  "bureau-bridge": ["--", "sh", "-c", "echo ${BUREAU_LOG-unset}"],
  "bureau-greeter": ["--nonsense"],
  "bureau-service-directory": [],
  "bureau-service-sample": [],
  "bureau-call": [],
};

const environment = readBuild(build);
const starts: readonly (readonly [string, readonly string[]])[] = [
  ...Object.entries(ends).flatMap(([name, args]) => [
    [`${name}, by its script`, [join(build, "bin", name), ...args]] as const,
    [
      `${name}, as an upgrade executes it`,
      [runtimeOf(build), ...argumentsFor(environment, name), ...args],
    ] as const,
  ]),
  ["the checkout's command", [join(checkout, "bureau"), "version"]],
  [
    "a script of the checkout",
    ["node", join(checkout, "scripts/run.mjs"), join(checkout, "scripts/test.mjs"), "--list"],
  ],
  ["a test's own program", evalCommand("console.log(process.env.BUREAU_LOG ?? 'unset')")],
  ["a program from its source", runtimeCommand(join(checkout, "packages/cli/src/main.ts"), "version")],
];

for (const [name, command] of starts)
  test(`${name} does the same in a hostile folder as in /`, async () => {
    const there = await run(command, folder);
    expect(existsSync(mark)).toBe(false);
    expect(there).not.toBe("");
    expect(await run(command, "/")).toBe(there);
  });

test("a build in a hostile folder uses only files of the checkout", async () => {
  const script = join(root, "build-once.ts");
  const made = join(root, "made");
  writeFileSync(
    script,
    `import { buildInto } from ${JSON.stringify(join(checkout, "scripts/build.ts"))};
await buildInto(${JSON.stringify(made)});
console.log("built");`,
  );
  expect(await run(["node", join(checkout, "scripts/run.mjs"), script], folder)).toBe("built");
  expect(readFileSync(join(made, "lib/bureau/main.js"), "utf8")).not.toContain(mark);
});

test("the same files change a runtime started without its arguments", async () => {
  const bare = [join(build, "lib/bureau/main.js"), "version"];
  await run([runtimeOf(build), ...bare], dirname(folder));
  expect(existsSync(mark)).toBe(true);
});
