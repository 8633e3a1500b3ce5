import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { bureauCommand } from "@bureau/testkit/bureau";

const root = mkdtempSync("/tmp/lm-");
afterAll(() => rmSync(root, { recursive: true, force: true }));

function launch(...flags: string[]): { code: number; stdout: string; stderr: string } {
  const child = Bun.spawnSync(runtimeCommand(resolve(import.meta.dirname, "main.ts"), ...flags), {
    env: { PATH: process.env["PATH"] ?? "", HOME: root },
  });
  return { code: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() };
}
const machine = ["--machine-name", "bureau/fleet/f/machine/m", "--fleet", "bureau/fleet/f"];
const folders = (runDir = join(root, "run")): string[] => [
  "--run-dir",
  runDir,
  "--state-dir",
  join(root, "state"),
  "--programs-dir",
  join(bureauCommand, "../.."),
];

test("--version prints the version and nothing else", () => {
  expect(launch("--version")).toEqual({
    code: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    stderr: "",
  });
});

test.each([
  ["an unknown flag", ["--nonsense"], "nonsense"],
  ["no machine name", ["--fleet", "bureau/fleet/f"], "--machine-name is missing"],
  ["a name that is no machine", ["--machine-name", "m", "--fleet", "bureau/fleet/f"], "machine"],
  [
    "a machine of another fleet",
    ["--machine-name", "bureau/fleet/x/machine/m", "--fleet", "bureau/fleet/f"],
    "not in the fleet",
  ],
  [
    "two sources of credentials",
    [...machine, "--bootstrap-file", "a", "--registration-token-file", "b"],
    "exclude each other",
  ],
])("%s is a usage error, exit code 2", (_name, flags, reason) => {
  const { code, stderr } = launch(...flags);
  expect(code).toBe(2);
  expect(stderr).toContain(reason);
});

test("a machine that has not joined says how to, and leaves no key behind", () => {
  const { code, stderr } = launch(...machine, ...folders());
  expect(code).toBe(1);
  expect(stderr).toContain("--bootstrap-file");
  expect(existsSync(join(root, "state/machine-key.txt"))).toBe(false);
});

test("a run folder without room for a socket is refused", () => {
  const { code, stderr } = launch(...machine, ...folders(`/tmp/${"x".repeat(100)}`));
  expect(code).toBe(2);
  expect(stderr).toContain("too long");
});
