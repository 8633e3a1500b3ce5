import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { tryFileLock } from "@bureau/os/file-lock";
import { findByArguments } from "@bureau/os/process-table";
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
  ["an invalid machine name", ["--machine-name", "m", "--fleet", "bureau/fleet/f"], "machine"],
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

test("on a machine that has not joined it shows the command to join, and leaves no key behind", () => {
  const { code, stderr } = launch(...machine, ...folders());
  expect(code).toBe(1);
  expect(stderr).toContain("--bootstrap-file");
  expect(existsSync(join(root, "state/machine-key.txt"))).toBe(false);
});

test("a launcher that replaces another in its process keeps the lock through first boot", () => {
  const stateDir = join(root, "exec");
  mkdirSync(stateDir, { mode: 0o700 });
  const session = {
    homeserver: "http://127.0.0.1:1",
    user_id: "@bureau/fleet/f/machine/m:s",
    access_token: "t",
  };
  writeFileSync(join(stateDir, "session.json"), JSON.stringify(session), { mode: 0o600 });
  const file = join(stateDir, "bootstrap.json");
  writeFileSync(file, "{}", { mode: 0o600 });
  using lock = tryFileLock(join(stateDir, "launcher.lock"));
  if (lock === undefined) throw new Error("the lock is taken");
  const flags = [...machine, "--bootstrap-file", file, "--programs-dir", join(bureauCommand, "../..")];
  const places = ["--run-dir", join(root, "exec-run"), "--state-dir", stateDir];
  const child = Bun.spawnSync(runtimeCommand(resolve(import.meta.dirname, "main.ts"), ...flags, ...places), {
    env: { PATH: process.env["PATH"] ?? "", HOME: root, BUREAU_LOCK_FD: "3" },
    stdio: ["ignore", "pipe", "pipe", lock.fd],
  });
  const output = `${child.stdout}${child.stderr}`;
  expect(output).toContain("first-boot.file-unusable");
  expect(output).not.toContain("another launcher");
  // There is no key: first boot is over, and the launcher has started.
  expect(output).toContain("The machine has a session but no key");
});

test("a launcher that is killed during first boot leaves no first boot behind", async () => {
  const connected = Promise.withResolvers<void>();
  // Accepts connections and never answers.
  const socket = { open: () => connected.resolve(), data: () => undefined };
  using homeserver = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  const stateDir = join(root, "killed");
  const file = join(root, "bootstrap-killed.json");
  const bootstrap = {
    homeserver_url: `http://127.0.0.1:${homeserver.port}`,
    server_name: "bureau.local",
    machine_name: "bureau/fleet/f/machine/m",
    password: "0".repeat(64),
    fleet_prefix: "bureau/fleet/f",
  };
  writeFileSync(file, JSON.stringify(bootstrap), { mode: 0o600 });
  const places = ["--run-dir", join(root, "killed-run"), "--state-dir", stateDir];
  const flags = [
    ...machine,
    "--bootstrap-file",
    file,
    "--programs-dir",
    join(bureauCommand, "../.."),
    ...places,
  ];
  const launcher = Bun.spawn(runtimeCommand(resolve(import.meta.dirname, "main.ts"), ...flags), {
    env: { PATH: process.env["PATH"] ?? "", HOME: root },
    stdio: ["ignore", "ignore", "ignore"],
  });
  const firstBoot = async () =>
    findByArguments("--state-dir", stateDir).find(({ pid }) => pid !== launcher.pid);
  await connected.promise;
  expect(await firstBoot()).toBeDefined();
  launcher.kill("SIGKILL");
  const isGone = async () => ((await firstBoot()) === undefined ? true : undefined);
  expect(await waitFor(isGone, { timeoutMs: 10_000, clock: systemClock })).toBe(true);
});

test("a run folder without room for a socket is refused", () => {
  const { code, stderr } = launch(...machine, ...folders(`/tmp/${"x".repeat(100)}`));
  expect(code).toBe(2);
  expect(stderr).toContain("too long");
});
