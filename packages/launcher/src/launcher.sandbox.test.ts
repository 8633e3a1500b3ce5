import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { callCbor } from "@bureau/os/cbor-client";
import { launcherSocket, tmuxSocket } from "@bureau/os/layout";
import { findInhabitants } from "@bureau/os/mounts";
import { findByArguments, identify, signalProcess } from "@bureau/os/process-table";
import { parsePrincipalName } from "@bureau/schema/refs";
import { unknown } from "valibot";
import { SPARE_PROXIES } from "./spare-proxies.ts";
import { TestLauncher } from "./testing/launcher-fixture.ts";

const FOREVER = "while :; do sleep 0.05; done";

describe("sandboxes", () => {
  let launcher: TestLauncher;
  beforeAll(async () => {
    launcher = await new TestLauncher().start();
  });
  afterAll(async () => {
    await launcher[Symbol.asyncDispose]();
  });
  const destroy = (principal: string, force = true) => launcher.call("destroy-sandbox", { principal, force });
  const tmux = (...args: string[]): string =>
    Bun.spawnSync(["tmux", "-S", tmuxSocket(launcher.layout), ...args]).stdout.toString();
  const shows = (principal: string, text: string): Promise<void> =>
    launcher.until(`"${text}" on the screen of ${principal}`, async () =>
      (await launcher.output(principal)).includes(text),
    );

  test("keeps a program's exit code and output until its sandbox is destroyed", async () => {
    const created = await launcher.create("agent/exits", "echo first; echo last; exit 3");
    expect(created.proxy_pid).toBeGreaterThan(1);
    const status = await launcher.exitOf("agent/exits");
    expect(status.exit).toMatchObject({ code: 3, description: "exited with 3", output: "first\nlast" });
    expect(await destroy("agent/exits")).toMatchObject({ exit: { code: 3 } });
    expect(await launcher.status("agent/exits")).toBeUndefined();
    expect(existsSync(launcher.paths("agent/exits").dir)).toBe(false);
    const last = await launcher.call("capture-output", { principal: "agent/exits", lines: 1 });
    expect(last).toEqual({ output: "last", live: false });
    expect(statSync(join(launcher.layout.stateDir, "last-output/agent+exits.txt")).mode & 0o777).toBe(0o600);
  });

  test.each([
    ["exit 0", 0, "exited with 0"],
    ["exit 255", 255, "exited with 255"],
    ["kill -KILL $$", 137, "killed by SIGKILL"],
    ["kill -SEGV $$", 139, "killed by SIGSEGV"],
  ])("%s is reported as code %d", async (script, code, description) => {
    await launcher.create("agent/code", script);
    expect((await launcher.exitOf("agent/code")).exit).toMatchObject({ code, description });
    await destroy("agent/code");
  });

  test("reports output only of a failure, and at most its last 500 lines", async () => {
    await launcher.create("agent/chatty", "seq 1 3000; exit 1");
    const { exit } = await launcher.exitOf("agent/chatty");
    const lines = exit?.output?.split("\n") ?? [];
    expect(lines).toHaveLength(500);
    expect(lines.at(-1)).toBe("3000");
    await launcher.create("agent/chatty", "echo fine");
    expect((await launcher.exitOf("agent/chatty")).exit?.output).toBeUndefined();
    await destroy("agent/chatty");
  });

  test("keeps a long screen full of three-byte characters like any other", async () => {
    const print = 'l=$(printf "─%.0s" $(seq 158)); for i in $(seq 4000); do echo "$l"; done; echo end';
    await launcher.create("agent/wide", print);
    expect((await launcher.exitOf("agent/wide")).exit).toMatchObject({ code: 0 });
    expect(await launcher.output("agent/wide")).toEndWith("─\nend");
    await destroy("agent/wide");
  });

  test("stops the proxy of an ended program", async () => {
    const { proxy_pid } = await launcher.create("agent/over", "true");
    await launcher.exitOf("agent/over");
    await launcher.until("the proxy is gone", () => identify(proxy_pid) === undefined);
    await launcher.until(
      "it is listed as dead",
      async () => (await launcher.status("agent/over"))?.proxy.state === "dead",
    );
    await destroy("agent/over");
  });

  test("lists a running sandbox, and ends its program with SIGTERM on destroy", async () => {
    const created = await launcher.create("agent/runs", `trap 'echo bye; exit 0' TERM; echo up; ${FOREVER}`);
    expect(await launcher.status("agent/runs")).toMatchObject({
      state: "running",
      pid: created.pid,
      proxy: { state: "running", pid: created.proxy_pid },
      digests: { spec: "s1", payload: "p1" },
    });
    await shows("agent/runs", "up");
    expect((await destroy("agent/runs", false)).exit).toMatchObject({
      code: 0,
      description: "exited with 0",
    });
    expect(await launcher.output("agent/runs")).toBe("up\nbye");
  });

  test("kills a program that ignores SIGTERM after its grace", async () => {
    await launcher.create("agent/deaf", `trap '' TERM; trap 'echo hup' HUP; echo up; ${FOREVER}`);
    await shows("agent/deaf", "up");
    const { exit } = await launcher.call("destroy-sandbox", { principal: "agent/deaf", grace_ms: 200 });
    expect(exit).toMatchObject({ code: 137, description: "killed by SIGKILL" });
  });

  test("a full disk loses a program's last output, but its sandbox is still removed", async () => {
    const kept = join(launcher.layout.stateDir, "last-output");
    renameSync(kept, `${kept}.aside`);
    writeFileSync(kept, "in its way");
    const { pid, proxy_pid } = await launcher.create("agent/unkept", FOREVER);
    await launcher.call("destroy-sandbox", { principal: "agent/unkept", force: true });
    expect([identify(pid ?? 0), identify(proxy_pid)]).toEqual([undefined, undefined]);
    await launcher.create("agent/unkept", "exit 3");
    expect((await launcher.exitOf("agent/unkept")).exit).toMatchObject({ code: 3 });
    rmSync(kept);
    renameSync(`${kept}.aside`, kept);
    await launcher.call("destroy-sandbox", { principal: "agent/unkept" });
  });

  test("a forced destroy sends no SIGTERM", async () => {
    await launcher.create("agent/forced", `trap 'echo asked' TERM; echo up; ${FOREVER}`);
    await shows("agent/forced", "up");
    expect((await destroy("agent/forced")).exit).toMatchObject({
      code: 137,
      description: "killed by SIGKILL",
    });
    expect(await launcher.output("agent/forced")).toBe("up");
  });

  test("an empty command is an interactive shell, which ends within its grace", async () => {
    await launcher.create("agent/shell", undefined);
    await shows("agent/shell", "$");
    const request = { principal: "agent/shell", grace_ms: 30_000 };
    const { exit } = await launcher.call("destroy-sandbox", request);
    expect(exit?.description).not.toBe("killed by SIGKILL");
  });

  test("Ctrl-C in an interactive shell ends the running command and not the shell", async () => {
    await launcher.create("agent/keys", undefined);
    await shows("agent/keys", "$");
    const type = (...keys: string[]) =>
      Bun.spawnSync([
        "tmux",
        "-S",
        tmuxSocket(launcher.layout),
        "send-keys",
        "-t",
        "=bureau/agent/keys:",
        ...keys,
      ]);
    type("echo be''gun; sleep 1000; echo code $?", "Enter");
    await shows("agent/keys", "begun");
    // A shell may discard what is typed before it has handled the interrupt. It ignores an interrupt that comes before its
    // command has the terminal. A person would press again.
    const isPrompt = async () => (await launcher.output("agent/keys")).trimEnd().endsWith("$");
    await launcher.until("a new prompt", async () => {
      type("C-c");
      for (let look = 0; look < 50; look++) {
        if (await isPrompt()) return true;
        await Bun.sleep(20);
      }
      return false;
    });
    type("echo al''ive", "Enter");
    await shows("agent/keys", "alive");
    expect((await launcher.status("agent/keys"))?.state).toBe("running");
    await destroy("agent/keys");
  });

  test("refuses a second sandbox of a running principal, and replaces that of an ended one", async () => {
    await launcher.create("agent/twice", FOREVER);
    await expect(launcher.create("agent/twice", FOREVER)).rejects.toMatchObject({ code: "conflict" });
    await destroy("agent/twice");
    await launcher.create("agent/twice", "exit 1");
    await launcher.exitOf("agent/twice");
    await launcher.create("agent/twice", FOREVER);
    expect((await launcher.status("agent/twice"))?.state).toBe("running");
    await destroy("agent/twice");
  });

  test("of two concurrent requests for the same principal, one succeeds", async () => {
    const results = await Promise.allSettled([
      launcher.create("agent/race", FOREVER),
      launcher.create("agent/race", FOREVER),
    ]);
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await destroy("agent/race");
  });

  test("names that differ only in a dash, a dot or a slash are different sandboxes", async () => {
    const names = ["agent/a-b", "agent/a/b", "agent/a.b", "agent/a"];
    await Promise.all(
      names.map((name) => launcher.create(name, `echo "this is $BUREAU_PRINCIPAL_NAME."; ${FOREVER}`)),
    );
    for (const name of names) await shows(name, `this is ${name}.`);
    await destroy("agent/a");
    for (const name of names.slice(0, 3)) expect((await launcher.status(name))?.state).toBe("running");
    await Promise.all(names.slice(0, 3).map((name) => destroy(name)));
  });

  test("creates ten at once, and all run", async () => {
    const names = Array.from({ length: 10 }, (_, index) => `agent/many${index}`);
    await Promise.all(names.map((name) => launcher.create(name, FOREVER)));
    const { sandboxes } = await launcher.call("list-sandboxes", {});
    expect(
      sandboxes.filter(({ state, proxy }) => state === "running" && proxy.state === "running"),
    ).toHaveLength(10);
    await Promise.all(names.map((name) => destroy(name)));
  });

  test("a signal reaches the program, and only a running one", async () => {
    await launcher.create("agent/signals", `trap 'echo usr1' USR1; echo up; ${FOREVER}`);
    await shows("agent/signals", "up");
    await launcher.call("signal-sandbox", { principal: "agent/signals", signal: 10 });
    await shows("agent/signals", "usr1");
    await launcher.call("signal-sandbox", { principal: "agent/signals", signal: 9 });
    expect((await launcher.exitOf("agent/signals")).exit).toMatchObject({ code: 137 });
    await expect(
      launcher.call("signal-sandbox", { principal: "agent/signals", signal: 9 }),
    ).rejects.toMatchObject({
      code: "conflict",
    });
    await destroy("agent/signals");
    await expect(
      launcher.call("signal-sandbox", { principal: "agent/signals", signal: 9 }),
    ).rejects.toMatchObject({
      code: "not-found",
    });
  });

  test("a new payload is visible inside, with SIGHUP only for a program that handles it", async () => {
    const payload = { task: "one" };
    await launcher.create("agent/plain", `echo up; ${FOREVER}`, { spec: { payload } });
    await launcher.create(
      "agent/hup",
      `trap 'cat /run/bureau/payload.json; echo' HUP; cat /run/bureau/payload.json; echo; ${FOREVER}`,
      { spec: { payload } },
    );
    await shows("agent/hup", '{"task":"one"}');
    await shows("agent/plain", "up");
    const update = (principal: string) =>
      launcher.call("update-payload", { principal, payload: { task: "two" }, payload_digest: "p2" });
    expect(await update("agent/plain")).toEqual({ signalled: false });
    expect(await update("agent/hup")).toEqual({ signalled: true });
    await shows("agent/hup", '{"task":"two"}');
    expect(await launcher.status("agent/plain")).toMatchObject({
      state: "running",
      digests: { spec: "s1", payload: "p2" },
    });
    await Promise.all(["agent/plain", "agent/hup"].map((name) => destroy(name)));
  });

  test("trigger, secrets, scratch, workspace and created folders are at the paths of the wire", async () => {
    mkdirSync(join(launcher.layout.workspaceRoot, "proj"), { recursive: true });
    const script =
      'cat /run/bureau/trigger.json /run/bureau/secrets/key; echo " $KEY"; touch /scratch/made /project/made; ls -d /data; pwd; echo $HOME; touch file && echo writable; test -w /usr || echo usr-ro; exit 1';
    await launcher.create("agent/files", script, {
      spec: {
        payload: { PROJECT: "proj" },
        create_dirs: ["/data"],
        secrets: [{ key: "K", env: "KEY", file: "key" }],
        filesystem: [{ source: "${WORKSPACE_ROOT}/${PROJECT}", dest: "/project", mode: "rw" }],
      },
      request: {
        trigger_content: '{"t":1}',
        encrypted_credentials: await launcher.seal({ MATRIX_TOKEN: "t", K: "value" }),
      },
    });
    const { exit } = await launcher.exitOf("agent/files");
    expect(exit?.output).toBe('{"t":1}value value\n/data\n/workspace\n/workspace\nwritable\nusr-ro');
    expect(readdirSync(join(launcher.layout.workspaceRoot, "proj")).sort()).toEqual([".scratch", "made"]);
    expect(existsSync(launcher.paths("agent/files").bwrapArguments)).toBe(false);
    await destroy("agent/files");
  });

  test("a program can reach its proxy, and a restarted one at the same path", async () => {
    copyFileSync(process.execPath, join(launcher.config.buildDir, "bun"));
    const code =
      'const r = await fetch("http://p/v1/identity", {unix: "/run/bureau/proxy.sock"}); console.log("proxy says", r.status > 0)';
    const script = `ask() { /run/bureau/programs/bun -e '${code}'; }; trap ask USR1; ask; echo up; ${FOREVER}`;
    const { proxy_pid } = await launcher.create("agent/proxied", script);
    await shows("agent/proxied", "proxy says true");
    process.kill(proxy_pid, "SIGKILL");
    await launcher.until(
      "its death is detected",
      async () => (await launcher.status("agent/proxied"))?.proxy.state === "dead",
    );
    const restarted = await launcher.call("restart-proxy", { principal: "agent/proxied" });
    expect(restarted.proxy_pid).not.toBe(proxy_pid);
    await shows("agent/proxied", "up");
    await launcher.call("signal-sandbox", { principal: "agent/proxied", signal: 10 });
    await launcher.until(
      "the same sandbox uses the new proxy",
      async () => (await launcher.output("agent/proxied")).split("proxy says true").length === 3,
    );
    expect(await launcher.status("agent/proxied")).toMatchObject({
      state: "running",
      proxy: { state: "running", pid: restarted.proxy_pid },
    });
    await destroy("agent/proxied");
  });

  test.each([
    ["a program that does not exist", { command: ["/no/such/program"] }, "execvp /no/such/program"],
    ["an unknown variable", { command: ["echo", "${NOPE}"] }, "NOPE"],
    ["a missing mount", { command: ["true"], filesystem: [{ source: "/no/such", dest: "/x" }] }, "/no/such"],
    [
      "a secret that is not provisioned",
      { command: ["true"], secrets: [{ key: "ABSENT", env: "A" }] },
      "ABSENT",
    ],
    ["an environment that is no store path", { command: ["true"], environment_path: "/usr" }, "/usr"],
    ["isolation none", { command: ["true"], isolation: "none" }, "isolation"],
    ["a NUL byte", { command: ["true"], environment_variables: { A: "a\0--bind" } }, "NUL"],
    [
      "a mount bubblewrap cannot make",
      { command: ["true"], filesystem: [{ source: "/usr", dest: "/usr/nope/x" }] },
      "bwrap: Can't",
    ],
  ])("%s fails with its reason and leaves nothing", async (_name, spec, reason) => {
    const attempt = launcher.create("agent/fails", undefined, { spec });
    await expect(attempt).rejects.toThrow(reason);
    await attempt.catch(() => {});
    expect(await launcher.status("agent/fails")).toBeUndefined();
    expect(leftovers(launcher, "agent/fails")).toEqual([]);
  });

  test("credentials sealed for another machine are refused without quoting them", async () => {
    const attempt = launcher.create("agent/fails", "true", {
      request: { encrypted_credentials: "bm90IGFnZQ==" },
    });
    await expect(attempt).rejects.toThrow("not sealed for age1");
    const empty = launcher.create("agent/fails", "true", {
      request: { encrypted_credentials: await launcher.seal({ K: "v" }) },
    });
    await expect(empty).rejects.toThrow("MATRIX_TOKEN");
    await Promise.allSettled([attempt, empty]);
  });

  test("a proxy that does not start fails the sandbox and leaves nothing", async () => {
    await using broken = await new TestLauncher().start(["/bin/false"]);
    const attempt = broken.create("agent/x", "true");
    await expect(attempt).rejects.toThrow("proxy");
    await attempt.catch(() => {});
    expect(leftovers(broken, "agent/x")).toEqual([]);
  });

  test("replaces a spare proxy that died, or dies while it is configured", async () => {
    const spares = () => findByArguments("--run-dir", launcher.layout.runDir, "--spare");
    const used = new Set((await launcher.call("list-sandboxes", {})).sandboxes.map(({ proxy }) => proxy.pid));
    const unused = () => spares().filter(({ pid }) => !used.has(pid));
    for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
      await launcher.until("all spares are there", () => unused().length === SPARE_PROXIES);
      const faulty = unused();
      for (const { pid } of faulty) process.kill(pid, signal);
      // A stopped proxy gets its configuration, and is then killed.
      const creating = launcher.create("agent/spared", FOREVER);
      if (signal === "SIGSTOP") {
        await launcher.until("it is assigned", () => existsSync(launcher.paths("agent/spared").record));
        for (const { pid } of faulty) process.kill(pid, "SIGKILL");
      }
      const { proxy_pid } = await creating;
      expect(faulty.map(({ pid }) => pid)).not.toContain(proxy_pid);
      expect((await launcher.status("agent/spared"))?.proxy.state).toBe("running");
      await destroy("agent/spared");
    }
  });

  test("sandboxes in a row take the spare proxies, which are refilled up to their number", async () => {
    const names = Array.from({ length: SPARE_PROXIES }, (_, index) => `agent/row${index}`);
    const used = new Set((await launcher.call("list-sandboxes", {})).sandboxes.map(({ proxy }) => proxy.pid));
    const unused = () =>
      findByArguments("--run-dir", launcher.layout.runDir, "--spare")
        .map(({ pid }) => pid)
        .filter((pid) => !used.has(pid));
    await launcher.until("all spares are there", () => unused().length === SPARE_PROXIES);
    const spares = unused();
    const created = await Promise.all(names.map((name) => launcher.create(name, FOREVER)));
    expect(created.map(({ proxy_pid }) => proxy_pid).sort()).toEqual(spares.sort());
    for (const pid of spares) used.add(pid);
    await launcher.until("all spares are there again", () => unused().length === SPARE_PROXIES);
    await Promise.all(names.map((name) => destroy(name)));
    expect(unused().length).toBe(SPARE_PROXIES);
  });

  test("`wait` answers on a change, after its time, and at once for an old revision", async () => {
    const { revision } = await launcher.call("list-sandboxes", {});
    const before = performance.now();
    await launcher.call("wait", { since: revision, timeout_ms: 100 });
    expect(performance.now() - before).toBeGreaterThan(90);
    const waiting = launcher.call("wait", { since: revision, timeout_ms: 10_000 });
    await launcher.create("agent/waited", FOREVER);
    const list = await waiting;
    expect(list.revision).not.toBe(revision);
    expect(list.sandboxes.map(({ principal }) => String(principal))).toContain("agent/waited");
    await launcher.call("wait", { since: revision, timeout_ms: 600_000 });
    await destroy("agent/waited");
  });

  test("answers with what changed when the client holds an earlier list, and with all of it when it does not", async () => {
    await launcher.create("agent/kept", FOREVER);
    const { revision } = await launcher.call("list-sandboxes", {});
    const waiting = launcher.call("wait", { since: revision, timeout_ms: 10_000, changes: true });
    await launcher.create("agent/waited", FOREVER);
    const change = await waiting;
    const names = (list: { sandboxes: { principal: string }[] }) =>
      list.sandboxes.map(({ principal }) => String(principal));
    expect([change.since, names(change), change.removed]).toEqual([revision, ["agent/waited"], []]);
    await destroy("agent/waited");
    const later = await launcher.call("list-sandboxes", { since: change.revision });
    expect([names(later), later.removed]).toEqual([[], [parsePrincipalName("agent/waited")]]);
    // A client of an earlier build sends `since` and expects the whole list.
    const whole = await launcher.call("wait", { since: revision, timeout_ms: 10_000 });
    expect(whole.since).toBeUndefined();
    expect(names(whole)).toContain("agent/kept");
    await destroy("agent/kept");
  });

  test("refuses invalid requests, and keeps running", async () => {
    const socket = launcherSocket(launcher.layout);
    const call = (request: { action: string }) => callCbor(socket, request, unknown(), { peer: "launcher" });
    await expect(call({ action: "nonsense" })).rejects.toMatchObject({ code: "invalid-input" });
    for (const principal of ["../escape", "agent/../../x", "agent", "AGENT/x", "agent/.hidden", ""]) {
      const request = {
        action: "create-sandbox",
        principal,
        sandbox_spec: { command: [] },
        digests: { spec: "", payload: "" },
      };
      await expect(call(request)).rejects.toMatchObject({ code: "invalid-input" });
    }
    await expect(call({ action: "destroy-sandbox", principal: 5 } as never)).rejects.toMatchObject({
      code: "invalid-input",
    });
    await new Promise<void>((resolve) => {
      const raw = connect(socket, () => raw.end(Buffer.from([0xff, 0x00, 0x13])));
      raw.on("close", () => resolve());
      raw.resume();
    });
    await expect(launcher.call("destroy-sandbox", { principal: "agent/absent" })).rejects.toMatchObject({
      code: "not-found",
    });
    expect(await launcher.call("status", {})).toMatchObject({ pid: process.pid, key_protection: "file" });
    expect(statSync(socket).mode & 0o777).toBe(0o660);
  });

  test("waits for a late exit code while a process that can write it lives", async () => {
    const { pid } = await launcher.create("agent/slow", `trap 'exit 0' USR1; echo up; ${FOREVER}`);
    await shows("agent/slow", "up");
    const [shell] = findByArguments("/bin/sh", launcher.paths("agent/slow").script);
    const server = identify(Number(tmux("display-message", "-p", "#{pid}")));
    if (shell === undefined || server === undefined) throw new Error("no shell, or no tmux server");
    // tmux, too, because it sends SIGCONT to children that are stopped.
    for (const id of [server, shell]) signalProcess(id, "SIGSTOP");
    process.kill(pid ?? 0, "SIGUSR1");
    await launcher.until("the program has ended", () => identify(pid ?? 0) === undefined);
    await systemClock.sleep(4_000);
    expect(await launcher.status("agent/slow")).toMatchObject({ state: "running" });
    for (const id of [shell, server]) signalProcess(id, "SIGCONT");
    expect((await launcher.exitOf("agent/slow")).exit).toMatchObject({ code: 0 });
    await destroy("agent/slow");
  });

  test("keeps the state of a sandbox whose destruction fails, and destroys it on the next request", async () => {
    await launcher.create("agent/undying", FOREVER);
    // Neither the open connection to tmux nor a client of its own can end the session.
    for (const client of findByArguments(tmuxSocket(launcher.layout), "-C")) signalProcess(client, "SIGKILL");
    await withoutPath(async () => await expect(destroy("agent/undying")).rejects.toThrow("tmux"));
    expect((await launcher.exitOf("agent/undying")).exit?.code).toBe(137);
    await destroy("agent/undying");
    expect(leftovers(launcher, "agent/undying")).toEqual([]);
  });

  test("leaves no process of a sandbox that it cannot remove in order", async () => {
    await using broken = await new TestLauncher().start(["/bin/false"]);
    await withoutPath(async () => await expect(broken.create("agent/x", FOREVER)).rejects.toThrow("agent/x"));
    expect(findInhabitants(broken.layout.runDir)).toEqual([]);
    await broken.until("its files are removed later", () => leftovers(broken, "agent/x").length === 0);
  });

  test("ends a proxy whose sockets cannot be put in place", async () => {
    const { proxy_pid } = await launcher.create("agent/blocked", FOREVER);
    const { proxyLink } = launcher.paths("agent/blocked");
    rmSync(proxyLink);
    mkdirSync(join(proxyLink, "full"), { recursive: true });
    const proxies = (): number => findByArguments("--run-dir", launcher.layout.runDir).length;
    await launcher.until("all spares are there", () => proxies() === 1 + SPARE_PROXIES);
    for (let attempt = 0; attempt < 2; attempt++)
      await expect(launcher.call("restart-proxy", { principal: "agent/blocked" })).rejects.toThrow();
    expect(identify(proxy_pid)).toBeUndefined();
    await launcher.until("only the spares are left", () => proxies() === SPARE_PROXIES);
    rmSync(proxyLink, { recursive: true });
    await launcher.call("restart-proxy", { principal: "agent/blocked" });
    expect((await launcher.status("agent/blocked"))?.proxy.state).toBe("running");
    await destroy("agent/blocked");
  });

  test("a killed tmux server ends its sandboxes as lost, and the next one starts a new server", async () => {
    await launcher.create("agent/lost", FOREVER);
    const { pid } = (await launcher.status("agent/lost")) ?? {};
    process.kill(Number(tmux("display-message", "-p", "#{pid}")), "SIGKILL");
    const { exit } = await launcher.exitOf("agent/lost");
    expect(exit?.code).toBe(-1);
    expect(exit?.description).toStartWith("lost:");
    expect(identify(pid ?? 0)).toBeUndefined();
    await launcher.create("agent/next", FOREVER);
    await Promise.all(["agent/lost", "agent/next"].map((name) => destroy(name)));
    expect(leftovers(launcher, "agent/lost")).toEqual([]);
  });
});

/** Runs `act` while this process finds no programs by name, tmux for one. */
async function withoutPath(act: () => Promise<unknown>): Promise<void> {
  const path = process.env["PATH"];
  process.env["PATH"] = "/nonexistent";
  try {
    await act();
  } finally {
    process.env["PATH"] = path;
  }
}

/** What a removed sandbox must not leave behind: processes, sockets, files. */
function leftovers(launcher: TestLauncher, principal: string): string[] {
  const paths = launcher.paths(principal);
  const files = [paths.dir, paths.proxyLink, paths.adminSocket].filter((path) => existsSync(path));
  const processes = launcher.processes().filter(({ args }) => args.some((arg) => arg.startsWith(paths.dir)));
  return [...files, ...processes.map(({ args }) => args.join(" "))];
}
