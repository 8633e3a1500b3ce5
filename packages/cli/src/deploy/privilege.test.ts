import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HostShell } from "../remote/host-shell.ts";
import { localShell } from "../remote/local.ts";
import { becomeRoot, privilegeOf } from "./privilege.ts";
import { runDoctor } from "./run-doctor.ts";

/** A fake sudo with -S and -n as in sudo(8): it reads one line, and leaves the rest to its command. */
const sudo = `#!/bin/sh
echo "$*" >>"$0.log"
while [ $# -gt 0 ]; do
  case $1 in
    -n) echo "sudo: a password is required" >&2; exit 1 ;;
    -S) read -r typed; [ "$typed" = "right one" ] || { echo "Sorry, try again." >&2; exit 1; } ;;
    -p) shift ;;
    -k) ;;
    --) shift; break ;;
    *) break ;;
  esac
  shift
done
exec "$@"
`;
let folder: string;
let host: HostShell;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bureau-sudo-"));
  writeFileSync(join(folder, "sudo"), sudo);
  chmodSync(join(folder, "sudo"), 0o755);
  const local = localShell();
  const stand = (word: string | undefined): string | undefined =>
    word === "sudo" ? join(folder, "sudo") : word;
  host = { ...local, run: (argv, how) => local.run([stand(argv[0]) ?? "", ...argv.slice(1)], how) };
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const limit = { timeoutMs: 10_000 };
const typing = (...passwords: string[]) => ({
  asked: 0,
  ask() {
    return Promise.resolve(passwords[this.asked++] ?? "");
  },
});

test("sends a password that sudo accepts before the command's input, and in no argument", async () => {
  const person = typing("wrong", "right one");
  const root = await becomeRoot(host, "sudo-password", () => person.ask());
  expect(person.asked).toBe(2);
  const ran = await root.run(["cat"], { ...limit, stdin: "for the command\n" });
  expect(ran).toEqual({ code: 0, stdout: "for the command\n", stderr: "" });
  expect(readFileSync(join(folder, "sudo.log"), "utf8")).not.toContain("right one");
});

test("fails after three wrong passwords, with another way as its hint", async () => {
  const person = typing("a", "b", "c", "d");
  const refused = becomeRoot(host, "sudo-password", () => person.ask());
  await expect(refused).rejects.toThrow("sudo did not accept the password");
  expect(person.asked).toBe(3);
});

test("root needs no sudo", async () => {
  const root = await becomeRoot(host, "root", () => Promise.reject(new Error("asked")));
  expect((await root.run(["printf", "%s", "x"], limit)).stdout).toBe("x");
});

/** A host whose programs exit with these codes; `id -u` prints the user. */
const answering = (uid: string, sudo: number): HostShell => ({
  ...host,
  run: ([program]) =>
    Promise.resolve({ code: program === "sudo" ? sudo : 0, stdout: program === "id" ? uid : "", stderr: "" }),
});

test.each([
  ["root", "0\n", 127],
  ["sudo", "1000\n", 0],
  ["sudo-password", "1000\n", 1],
  ["none", "1000\n", 127],
] as const)("a host offers %s", async (privilege, uid, sudo) => {
  expect(await privilegeOf(answering(uid, sudo))).toBe(privilege);
});

const doctor = (script: string) => {
  const program = join(folder, "bin", "bureau");
  Bun.spawnSync(["mkdir", "-p", join(folder, "bin")]);
  writeFileSync(program, `#!/bin/sh\n${script}\n`);
  chmodSync(program, 0o755);
  const lines: string[] = [];
  const report = runDoctor({
    root: { run: (argv, how) => localShell().run(argv, how) },
    hostName: "new-host",
    build: folder,
    flags: ["--fleet", "bureau/fleet/prod"],
    bootstrap: '{"password":"once"}\n',
    onLine: (line) => lines.push(line),
  });
  return { report, lines };
};

test("passes the bootstrap to doctor on standard input only, and reads doctor's report after a greeting", async () => {
  const { report, lines } = doctor(`
    echo "$@" >&2; cat >&2
    echo 'Welcome!'; printf '{"summary":{},\\n"checks":[{"id":"a","status":"pass"}],"changes":["x"]}\\n'`);
  expect(await report).toMatchObject({ checks: [{ id: "a", status: "pass" }], changes: ["x"] });
  expect(lines).toEqual([
    "machine doctor --fix --system --fleet bureau/fleet/prod --bootstrap-file - --json",
    '{"password":"once"}',
  ]);
});

test("shows what doctor could not repair: the state found, the state expected, and the hint", async () => {
  const { report } = doctor(`
    printf '{"checks":[{"id":"a","status":"pass"},{"id":"launcher","status":"fail","found":"dead","expected":"active","fix":"look"}]}'
    exit 1`);
  await expect(report).rejects.toThrow(
    "One check still fails on new-host:\n  launcher: dead; expected: active\n    → look",
  );
});

test("quotes a doctor that prints something else", async () => {
  await expect(doctor(`echo "Illegal instruction" >&2; exit 132`).report).rejects.toThrow(
    "exit code 132. Output:\n  │ Illegal instruction",
  );
  const failing = doctor(`printf '{"ok":false,"error":"no such flag","hint":"see --help"}'; exit 2`);
  await expect(failing.report).rejects.toThrow("exit code 2: no such flag");
});
