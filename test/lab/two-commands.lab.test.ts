/**
 * A newcomer's host runs the README's two commands: Debian with Node, npm and git, an ordinary user, no sudo. What is
 * missing is named with the command that installs it; the host's administrator runs that command as printed.
 *
 * The lab has no route to the outside: npm reads the packages of the lock file from a cache that this host fills, and apt finds what
 * the image downloaded.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { root as repository } from "../../scripts/find-bun.mjs";
import { executeOk } from "./execute.ts";
import type { Machine } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const FILL_MS_MAX = 10 * 60_000;
/** Half an hour on a machine five times slower than usual. */
const SUITE_MS_MAX = 30 * 60_000;

const lab = useLab(async (opened) => {
  const handed = join(opened.folder, "handed");
  const clone = join(handed, "clone");
  await executeOk(["git", "clone", "--quiet", "--no-local", "--depth=1", `file://${repository}`, clone]);
  await executeOk(
    ["npm", "ci", "--ignore-scripts", "--loglevel=error", "--prefix", clone, "--cache", join(handed, "npm")],
    { timeoutMs: FILL_MS_MAX },
  );
  await executeOk(["git", "-C", clone, "bundle", "create", "--quiet", join(handed, "bureau.bundle"), "HEAD"]);
  const host = await opened.boot("newcomer", {
    image: "bare",
    user: "alice",
    binds: { [handed]: "/handed" },
  });
  await host.ok(
    "cp -r /handed/npm ~/.npm && npm config set offline=true && git clone -q /handed/bureau.bundle bureau",
  );
});

const host = (): Machine => lab().machine("newcomer");

/** Runs one of the two commands; its exit code, and all it printed. */
async function type(command: string): Promise<{ code: number | null; text: string }> {
  const { code, stdout } = await host().run(`cd bureau && { ${command}; } 2>&1`, { timeoutMs: SUITE_MS_MAX });
  return { code, text: stdout };
}

/** The command names the packages that are missing; the administrator types what it prints. */
async function installAsPrinted(command: string, exitCode: number): Promise<string> {
  const { code, text } = await type(command);
  const install = /run(?: them)?: sudo (apt-get install .*)/.exec(text)?.[1];
  if (code !== exitCode || install === undefined)
    throw new Error(`"${command}" exited with ${code}:\n${text}`);
  await host().ok(`${install} </dev/null`, { user: "root", env: { DEBIAN_FRONTEND: "noninteractive" } });
  return text;
}

test(
  "npm start names missing packages; after their installation it brings up a working Bureau",
  async () => {
    const first = await installAsPrinted("npm start", 1);
    expect(first).not.toContain("EBADENGINE");
    const { code, text } = await type("npm start");
    expect({ code, text }).toMatchObject({ code: 0, text: expect.stringContaining("Bureau is up") });
    expect((await type("./bureau agent create demo --command 'echo hello; sleep 1000'")).code).toBe(0);
    expect((await type("until ./bureau agent logs demo | grep -q hello; do sleep 0.2; done")).code).toBe(0);
    expect((await type("./bureau down")).code).toBe(0);
  },
  SUITE_MS_MAX,
);

test(
  "npm test names further missing packages; after their installation every test passes",
  async () => {
    const first = await installAsPrinted("npm test", 1);
    expect(first).not.toContain("EBADENGINE");
    // Names packages that only some tests need, and skips those tests.
    await installAsPrinted("npm test -- kit/src/duration", 0);
    const { code, text } = await type("npm test");
    console.log(text.split("\n").slice(-3).join("\n"));
    const remarkable = text.split("\n").filter((line) => !line.startsWith("(pass)"));
    if (code !== 0) throw new Error(remarkable.join("\n"));
    expect(text).toMatch(/^[0-9]+ passed, 0 failed/m);
  },
  SUITE_MS_MAX,
);
