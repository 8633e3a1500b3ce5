/**
 * A launcher as systemd runs it: a socket starts one proxy for each connection, the tmux server already runs in another
 * unit, and operators have a group.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { lstatSync, realpathSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { tmuxSocket } from "@bureau/os/layout";
import { argumentsOf, childrenOf, findByArguments } from "@bureau/os/process-table";
import { PROXY_COMMAND, TestLauncher } from "./testing/launcher-fixture.ts";

/** Like `Accept=yes`: starts one program for each connection, with the connection as standard input and output. */
const ACCEPTOR = `
import json, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(64)
print("listening", flush=True)
children = []
while True:
    connection, _ = s.accept()
    children.append(subprocess.Popen(json.loads(sys.argv[2]), stdin=connection, stdout=connection))
    connection.close()
    [child.poll() for child in children]`;
const FOREVER = "echo begun; while :; do sleep 0.05; done";
/** A group to which this test's user may change files. */
const GROUP = process.getgid?.() ?? 0;

/** The answer of a service to one word. */
const sayTo = (path: string, word: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let said = "";
    const socket = connect({ path }, () => socket.write(word));
    socket.on("data", (bytes: Buffer) => (said += bytes.toString()));
    socket.once("error", reject).once("close", () => resolve(said));
  });

describe("a launcher whose proxies and tmux server are not its children", () => {
  const launcher = new TestLauncher();
  const { runDir } = launcher.layout;
  const proxySocket = join(runDir, "proxy-spawn.sock");
  const startTmux = () =>
    Bun.spawn(["tmux", "-u", "-D", "-S", tmuxSocket(launcher.layout), "-f", "/dev/null"], {
      env: { PATH: process.env["PATH"] ?? "", SHELL: "/bin/sh" },
      stdio: ["ignore", "ignore", "inherit"],
    });
  let acceptor: Bun.Subprocess;
  let tmux: Bun.Subprocess;

  beforeAll(async () => {
    const proxy = [...PROXY_COMMAND, "--spare", "--run-dir", runDir];
    const child = Bun.spawn(["python3", "-c", ACCEPTOR, proxySocket, JSON.stringify(proxy)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await child.stdout.getReader().read();
    acceptor = child;
    tmux = startTmux();
    await launcher.start(undefined, { proxySocket, externalTerminals: true, operatorsGid: GROUP });
  });
  afterAll(async () => {
    acceptor.kill();
    await launcher[Symbol.asyncDispose]();
    tmux.kill();
  });

  test("creates sandboxes whose proxy the socket started, in the other unit's tmux server", async () => {
    const { proxy_pid, pid } = await launcher.create("agent/apart", FOREVER);
    expect(childrenOf(acceptor.pid)).toContain(proxy_pid);
    expect(childrenOf(process.pid)).not.toContain(proxy_pid);
    expect(childrenOf(tmux.pid).some((shell) => argumentsOf(shell).join(" ").includes("agent+apart"))).toBe(
      true,
    );
    expect(pid).toBeGreaterThan(1);
    const health = await fetch("http://h/health", { unix: launcher.paths("agent/apart").proxySocket });
    expect(await health.json()).toEqual({ status: "ok" });
  });

  test("reports that such a proxy died, and starts a new one", async () => {
    const before = await launcher.create("agent/bereft", FOREVER);
    process.kill(before.proxy_pid, "SIGKILL");
    await launcher.until(
      "the proxy is dead",
      async () => (await launcher.status("agent/bereft"))?.proxy.state === "dead",
    );
    const { proxy_pid } = await launcher.call("restart-proxy", { principal: "agent/bereft" });
    expect(proxy_pid).not.toBe(before.proxy_pid);
    expect((await launcher.status("agent/bereft"))?.proxy).toEqual({ state: "running", pid: proxy_pid });
  });

  test("gives operators access to a service's socket, by its group, and to nothing else", async () => {
    await launcher.create(
      "service/clock",
      `python3 -c "
import socket, time
import os
s = socket.socket(socket.AF_UNIX); s.bind('/run/bureau/listen/service.sock'); s.listen(1)
os.chmod('/run/bureau/listen/service.sock', 0o600); print('bound', flush=True)
while True:
    c = s.accept()[0]; c.sendall(b'said ' + c.recv(100)); c.close()"`,
    );
    await launcher.until("the service listens", async () =>
      (await launcher.output("service/clock")).includes("bound"),
    );
    const paths = launcher.paths("service/clock");
    const mode = (path: string): string => (statSync(path).mode & 0o7777).toString(8);
    expect([paths.dir, paths.inside, paths.listen, paths.secrets].map(mode)).toEqual([
      "711",
      "711",
      "2750",
      "700",
    ]);
    expect(mode(join(paths.dir, ".."))).toBe("755");
    expect([paths.payload, paths.record].map(mode)).toEqual(["600", "600"]);
    const link = paths.serviceLink ?? "";
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(link.endsWith("/fleet/test/service/clock.sock")).toBe(true);
    expect(statSync(realpathSync(link)).gid).toBe(GROUP);
    expect(mode(realpathSync(link))).toBe("660");
    expect(await sayTo(link, "hello")).toBe("said hello");
    expect(mode(launcher.paths("agent/apart").dir)).toBe("700");
    await launcher.call("destroy-sandbox", { principal: "service/clock", force: true });
    expect(lstatSync(link, { throwIfNoEntry: false })).toBeUndefined();
  });

  test("uses and configures a tmux server that was restarted", async () => {
    tmux.kill("SIGKILL");
    await tmux.exited;
    await expect(launcher.create("agent/none", FOREVER)).rejects.toThrow("tmux exited with 1");
    tmux = startTmux();
    await launcher.until("a sandbox can be made again", () =>
      launcher.create("agent/again", "echo said; exit 4").then(
        () => true,
        () => false,
      ),
    );
    // Without remain-on-exit there would be no last screen.
    expect((await launcher.exitOf("agent/again")).exit).toMatchObject({ code: 4, output: "said" });
  });

  test("ends everything on SIGTERM, the tmux server included", async () => {
    await launcher.stop();
    expect(await tmux.exited).toBe(0);
    expect(findByArguments("--run-dir", runDir, "--spare")).toEqual([]);
  });
});
