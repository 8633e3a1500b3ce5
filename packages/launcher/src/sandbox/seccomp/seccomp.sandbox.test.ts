import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { tmuxSession, tmuxSocket } from "@bureau/os/layout";
import { parsePrincipalName } from "@bureau/schema/refs";
import { type SpecInput, TestLauncher } from "../../testing/launcher-fixture.ts";
import { denyList } from "./deny-list.ts";
import { type Architecture, type SyscallName, syscallNumber } from "./syscall-numbers.ts";

const { EPERM, EAFNOSUPPORT, EPROTONOSUPPORT } = constants.errno;

/** Inside: makes each call with the given arguments and prints the errno, 0 for success. */
const CALLER = `
import { dlopen, read } from "bun:ffi";
const { symbols } = dlopen("libc.so.6", {
  syscall: { args: Array(7).fill("i64"), returns: "i64" },
  __errno_location: { args: [], returns: "ptr" },
});
const errno = ([number, ...args]) =>
  Number(symbols.syscall(BigInt(number), ...args.map(BigInt), ...Array(6 - args.length).fill(-1n))) === -1
    ? read.i32(symbols.__errno_location(), 0)
    : 0;
console.log("answers " + JSON.stringify(JSON.parse(await Bun.stdin.text()).map(errno)));
`;

/** Inside: a thread, a child with a pipe, a socket pair and a timer, as programs of the runtime use them. */
const ORDINARY = `
const worker = new Worker(URL.createObjectURL(new Blob(["postMessage(6 * 7)"])));
const answer = await new Promise((resolve) => { worker.onmessage = ({ data }) => resolve(data); });
const child = await Bun.$\`printf child | cat\`.text();
const server = Bun.serve({ port: 0, fetch: () => new Response("served") });
const served = await fetch(server.url).then((response) => response.text());
console.log(answer, child, served);
process.exit(0);
`;

type Call = readonly [name: SyscallName, args: readonly (number | string)[], errno: number];

const NEWUSER = 0x1000_0000;
/** Calls that are refused inside, and that would change nothing if allowed: six times -1 is not a valid argument. */
const refused: readonly Call[] = [
  ...denyList.flatMap(({ syscalls, errno, when }) =>
    when === undefined ? syscalls.map((name): Call => [name, [], errno]) : [],
  ),
  ["unshare", [NEWUSER], EPERM],
  ...[17, 38, 40].map((family): Call => ["socket", [family, 1, 0], EAFNOSUPPORT]),
  ["socketpair", [40, 1, 0], EAFNOSUPPORT],
  ["socket", [16, 3, 15], EPROTONOSUPPORT],
  ["ioctl", [0, 0x5412], EPERM],
  ["ioctl", [0, 0x541c], EPERM],
  ["ioctl", [0, `${0x7_0000_5412}`], EPERM],
];

describe("a program in a sandbox", () => {
  let launcher: TestLauncher;
  beforeAll(async () => {
    launcher = new TestLauncher();
    const { buildDir } = launcher.config;
    copyFileSync(process.execPath, join(buildDir, "bin/bun"));
    writeFileSync(join(buildDir, "caller.ts"), CALLER);
    writeFileSync(join(buildDir, "ordinary.ts"), ORDINARY);
    await launcher.start();
  });
  afterAll(() => launcher[Symbol.asyncDispose]());

  let count = 0;
  const inside = async (script: string, spec: Partial<SpecInput> = {}): Promise<string> => {
    const principal = `agent/caller${count++}`;
    await launcher.create(principal, `(${script}) 2>&1; exit 7`, { spec });
    const { exit } = await launcher.exitOf(principal);
    await launcher.call("destroy-sandbox", { principal });
    return exit?.output ?? "";
  };
  const BUN = "/run/bureau/programs/bin/bun";
  const answers = async (calls: readonly Call[], security: SpecInput["security"] = {}) => {
    const asked = calls.map(([name, args]) => [syscallNumber(name, process.arch as Architecture), ...args]);
    const output = await inside(`echo '${JSON.stringify(asked)}' | ${BUN} /run/bureau/programs/caller.ts`, {
      security,
    });
    const found = /answers \[([\d,\s]*)\]/.exec(output)?.[1];
    if (found === undefined) throw new Error(`the program in the sandbox did not answer: ${output}`);
    return found.split(",").map(Number);
  };

  test("is refused every call of the list, with the errno of the list", async () => {
    const seen = await answers(refused);
    for (const [index, [name, args, errno]] of refused.entries())
      expect([name, args, seen[index]]).toEqual([name, args, errno]);
  });

  test("may make ordinary calls: sockets of common families, a terminal's size", async () => {
    const allowed: readonly Call[] = [
      ...[1, 2, 10].map((family): Call => ["socket", [family, 1, 0], 0]),
      ["socket", [16, 3, 0], 0],
      ["unshare", [0x200], 0],
    ];
    expect(await answers(allowed)).toEqual(allowed.map(() => expect.any(Number)));
    expect((await answers(allowed)).includes(EPERM)).toBe(false);
  });

  test("may nest user namespaces where the template allows it, and still reaches no keyring", async () => {
    const calls: readonly Call[] = [
      ["unshare", [NEWUSER], 0],
      ["keyctl", [], EPERM],
    ];
    // A process with several threads cannot enter another user namespace (EINVAL): the filter allowed the call.
    const [nested, keys] = await answers(calls, { nested_userns: true });
    expect([nested !== EPERM, keys]).toEqual([true, EPERM]);
  });

  test("has threads, children, pipes and sockets", async () => {
    expect(await inside(`${BUN} /run/bureau/programs/ordinary.ts`)).toContain("42 child served");
  });

  test.skipIf(!existsSync("/usr/bin/git"))("can use git", async () => {
    const output = await inside(
      "cd && git init -q r && cd r && echo x >f && git add f && git -c user.name=n -c user.email=e commit -qm m && git gc -q && git fsck && git log --format=%s",
    );
    expect(output.trim().split("\n").at(-1)).toBe("m");
  });

  test("sees neither the host's keys nor its environment", async () => {
    const output = await inside(
      "wc -c </proc/keys; wc -c </proc/key-users; tr '\\0' '\\n' </proc/1/environ | wc -c; grep Seccomp: /proc/1/status",
    );
    expect(output.split(/\s+/).filter((word) => word !== "")).toEqual(["0", "0", "0", "Seccomp:", "2"]);
  });

  test.skipIf(Bun.which("keyctl") === null)("has a session keyring of its own", async () => {
    const tools = join(launcher.root, "tools");
    const seen = join(launcher.root, "keyrings");
    mkdirSync(tools);
    const shim = `#!/bin/sh\n${Bun.which("keyctl")} show @s >>${seen}\nexec ${Bun.which("bwrap")} "$@"\n`;
    writeFileSync(join(tools, "bwrap"), shim, { mode: 0o755 });
    const path = process.env["PATH"] ?? "";
    process.env["PATH"] = `${tools}:${path}`;
    await using watched = new TestLauncher();
    try {
      await watched.start();
    } finally {
      process.env["PATH"] = path;
    }
    for (const name of ["one", "two"]) await watched.create(`agent/${name}`, "sleep 60");
    const keyrings = readFileSync(seen, "utf8").match(/^ *\d+ .*keyring: _ses/gm) ?? [];
    expect([keyrings.length, new Set(keyrings).size]).toEqual([2, 2]);
    expect(await watched.output("agent/one")).toBe("");
  });

  test("gets a signal when its terminal changes size", async () => {
    await launcher.create("agent/wide", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done");
    await launcher.until("it is ready", async () => (await launcher.output("agent/wide")).includes("ready"));
    const session = tmuxSession(parsePrincipalName("agent/wide"));
    const resize = ["resize-window", "-t", `=${session}:`, "-x", "101", "-y", "33"];
    Bun.spawnSync(["tmux", "-S", tmuxSocket(launcher.layout), ...resize]);
    await launcher.until("it knows the new size", async () =>
      (await launcher.output("agent/wide")).includes("33 101"),
    );
    await launcher.call("destroy-sandbox", { principal: "agent/wide", force: true });
  });

  test("leaves its exit code when it ends its whole process group", async () => {
    await launcher.create(
      "agent/group",
      "trap 'trap - TERM; kill 0' HUP; echo ready; while :; do sleep 0.02; done",
    );
    await launcher.until("it is ready", async () => (await launcher.output("agent/group")).includes("ready"));
    await launcher.call("signal-sandbox", { principal: "agent/group", signal: constants.signals.SIGHUP });
    expect((await launcher.exitOf("agent/group")).exit).toMatchObject({ code: 143 });
    await launcher.call("destroy-sandbox", { principal: "agent/group" });
  });

  test("has a record of the layers that the kernel confirms", async () => {
    const shared = { namespaces: { net: false }, security: { perf: true } };
    await launcher.create("agent/alone", "sleep 60");
    await launcher.create("agent/shared", "sleep 60", { spec: shared });
    const alone = (await launcher.status("agent/alone"))?.confinement;
    expect(Object.entries(alone?.layers ?? {}).filter(([, holds]) => !holds)).toEqual([]);
    expect(alone).toMatchObject({ layers: { seccomp: true, keys_hidden: true }, exceptions: [] });
    const other = (await launcher.status("agent/shared"))?.confinement;
    expect(other).toMatchObject({
      layers: { seccomp: true, network_namespace: false },
      exceptions: ["perf"],
    });
  });
});
