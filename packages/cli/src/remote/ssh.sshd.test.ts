import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { dirname } from "node:path";
import { isBureauError } from "@bureau/kit/errors";
import { findByArguments } from "@bureau/os/process-table";
import { type Sshd, sshdProgram, startSshd } from "@bureau/testkit/sshd";
import { eventually } from "@bureau/testkit/use-bureau";
import { runOrThrow } from "./host-shell.ts";
import { type SshShell, sshShell } from "./ssh.ts";

const limit = { timeoutMs: 20_000 };
if (sshdProgram === null)
  console.warn("SKIPPED: tests over ssh need an sshd (apt-get install openssh-server)");

describe.skipIf(sshdProgram === null)("a shell over ssh", () => {
  let sshd: Sshd;
  let host: SshShell;
  const target = () => ({ kind: "ssh", host: "127.0.0.1", user: sshd.user, port: sshd.port }) as const;
  const open = (options = sshd.options, signal?: AbortSignal): Promise<SshShell> =>
    sshShell(target(), { options, interactive: false, ...(signal === undefined ? {} : { signal }) });
  const failure = async (act: Promise<unknown>) => {
    const error: unknown = await act.then(
      () => new Error("it succeeded"),
      (thrown: unknown) => thrown,
    );
    if (!isBureauError(error)) throw error;
    return error;
  };

  beforeAll(async () => {
    sshd = await startSshd();
    host = await open();
  });
  afterAll(async () => {
    await host?.[Symbol.asyncDispose]();
    await sshd?.[Symbol.asyncDispose]();
  });

  test("runs a program with exactly the arguments it is given", async () => {
    const nasty = [
      "",
      "a b",
      "$(id) `id` $HOME",
      "it's",
      'a "b"',
      "back\\slash\\",
      "line\nend",
      "*",
      "-n",
      "ü✓",
    ];
    const { code, stdout } = await host.run(["printf", "%s\\0", ...nasty], limit);
    expect(code).toBe(0);
    expect(stdout.split("\0").slice(0, -1)).toEqual(nasty);
  });

  test("gives exit code, output and errors of a program that fails", async () => {
    const ran = await host.run(["sh", "-c", "echo out; echo err >&2; exit 3"], limit);
    expect(ran).toEqual({ code: 3, stdout: "out\n", stderr: "err\n" });
    const error = await failure(
      runOrThrow(
        host,
        "do it",
        ["sh", "-c", "printf '\\033[31mno \\033]0;t\\007space\\n' >&2; exit 1"],
        limit,
      ),
    );
    expect(error.message).toBe(`Cannot do it on ${sshd.user}@127.0.0.1: exit code 1. Output:\n  │ no space`);
  });

  test("passes on lines of standard error as they arrive", async () => {
    const lines: string[] = [];
    await host.run(["sh", "-c", "printf 'one\\ntwo\\rthree' >&2"], {
      ...limit,
      onLine: (l) => lines.push(l),
    });
    expect(lines).toEqual(["one", "two", "three"]);
  });

  test("streams 50 MB of input completely", async () => {
    const chunk = Buffer.alloc(1 << 20, "bureau");
    const sum = createHash("sha256");
    async function* input() {
      for (let sent = 0; sent < 50; sent++) {
        sum.update(chunk);
        yield chunk;
      }
    }
    const ran = await host.run(["sha256sum"], { timeoutMs: 60_000, stdin: input() });
    expect(ran.stdout.slice(0, 64)).toBe(sum.digest("hex"));
  });

  test("survives a program that does not read its input", async () => {
    async function* input() {
      for (let sent = 0; sent < 20; sent++) yield Buffer.alloc(1 << 20);
    }
    expect((await host.run(["sh", "-c", "exit 4"], { ...limit, stdin: input() })).code).toBe(4);
  });

  test("stops a program that prints without end, and one that takes too long", async () => {
    expect((await failure(host.run(["yes"], limit))).code).toBe("too-large");
    expect((await failure(host.run(["sleep", "100"], { timeoutMs: 300 }))).code).toBe("timeout");
  });

  test("uses one login for all commands", async () => {
    const before = await host.run(["sh", "-c", "echo $SSH_CONNECTION"], limit);
    const after = await host.run(["sh", "-c", "echo $SSH_CONNECTION"], limit);
    expect(before.stdout).toMatch(/^127\.0\.0\.1 \d+/);
    expect(after.stdout).toBe(before.stdout);
  });

  test("stops on an abort signal, and leaves no connection and no folder behind", async () => {
    const stop = new AbortController();
    const other = await open(sshd.options, stop.signal);
    const folder = dirname(other.connectionOptions[0]?.replace("ControlPath=", "") ?? "");
    expect(readdirSync(folder)).toEqual(["s"]);
    const running = failure(other.run(["sleep", "100"], limit));
    stop.abort();
    expect((await running).message).toContain("interrupted");
    await other[Symbol.asyncDispose]();
    expect(existsSync(folder)).toBe(false);
  });

  test("refuses a host whose key is not the known one, with a hint", async () => {
    const error = await failure(open(sshd.optionsWithWrongHostKey));
    expect(error.code).toBe("unavailable");
    expect(error.message).toContain("Host key verification failed");
    expect(error.hint).toContain("ssh-keygen -R");
  });

  test("reports a host that refuses our key, and a port without a server", async () => {
    const stranger = sshd.options.map((option) =>
      option.startsWith("IdentityFile=") ? "IdentityFile=/nonexistent" : option,
    );
    expect((await failure(open(stranger))).hint).toContain("no key was accepted");
    const silent = await failure(
      sshShell({ kind: "ssh", host: "127.0.0.1", port: 1 }, { options: [], interactive: false }),
    );
    expect(silent.message).toContain("Connection refused");
    expect(silent.hint).toContain("check that an ssh server runs there");
    const nameless = await failure(
      sshShell({ kind: "ssh", host: "no-such-host.invalid" }, { options: [], interactive: false }),
    );
    expect(nameless.message).toContain("Could not resolve hostname");
  });

  test("distinguishes a server that refuses our address for a while from a broken network", async () => {
    // OpenSSH's own server sends an address with penalties a line, or nothing, and closes.
    for (const greeting of ["Not allowed at this time\r\n", ""]) {
      using server = Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        socket: { open: (socket) => void socket.end(greeting), data: () => {} },
      });
      const error = await failure(
        sshShell({ kind: "ssh", host: "127.0.0.1", port: server.port }, { options: [], interactive: false }),
      );
      expect(error.code).toBe("unavailable");
      expect(error.hint).toContain("PerSourcePenalties");
      expect(error.hint).not.toContain("network reachable");
    }
  });

  test("reports why ssh ended, although a program that it started keeps running and holds its output", async () => {
    const marks = `echo its reason >&2; sleep 300.${process.pid} & exit 1`;
    // ssh itself waits this long for a greeting, because its end of the proxy's output stays open.
    const options = ["ConnectTimeout=3", ...sshd.options, `ProxyCommand=sh -c '${marks}'`];
    const error = await failure(open(options));
    for (const left of findByArguments("sleep", `300.${process.pid}`)) process.kill(left.pid);
    expect(error.code).toBe("unavailable");
    expect(error.message).toContain("its reason");
  });

  test("refuses an option that ssh would split in two", async () => {
    for (const option of ["ProxyCommand", "-oX=y", "A=b\nProxyCommand=id"])
      expect((await failure(open([option]))).code).toBe("invalid-input");
  });

  test("reports an unreachable host when the connection drops during a command", async () => {
    const own = await startSshd();
    const shell = await sshShell(
      { kind: "ssh", host: "127.0.0.1", user: own.user, port: own.port },
      { options: own.options, interactive: false },
    );
    let started = false;
    const running = failure(
      shell.run(["sh", "-c", "echo up >&2; sleep 100"], { ...limit, onLine: () => (started = true) }),
    );
    await eventually(async () => started || undefined);
    await own.stop();
    expect((await running).code).toBe("unavailable");
    await shell[Symbol.asyncDispose]();
    await own[Symbol.asyncDispose]();
  });
});
