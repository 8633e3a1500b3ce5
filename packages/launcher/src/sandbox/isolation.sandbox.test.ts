import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { callCbor } from "@bureau/os/cbor-client";
import type { LauncherResponse } from "@bureau/schema/launcher-ipc";
import * as v from "valibot";
import { TestLauncher } from "../testing/launcher-fixture.ts";

/** Attempts from inside a sandbox to reach resources of others. Each really runs; each must fail. */
describe("from inside a sandbox", () => {
  let launcher: TestLauncher;
  let victim: LauncherResponse<"create-sandbox">;
  let listener: Bun.TCPSocketListener;
  const canary = join(homedir(), `.bureau-canary-${process.pid}`);

  beforeAll(async () => {
    writeFileSync(canary, "home-secret", { mode: 0o644 });
    launcher = await new TestLauncher().start();
    const sealed = await launcher.seal({ MATRIX_TOKEN: "syt_victim", API_KEY: "victim-key" });
    victim = await launcher.create("agent/victim", "while :; do sleep 1; done", {
      request: { encrypted_credentials: sealed },
      spec: { secrets: [{ key: "API_KEY", file: "key", env: "API_KEY" }] },
    });
    listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  });
  afterAll(async () => {
    rmSync(canary, { force: true });
    listener.stop(true);
    await launcher[Symbol.asyncDispose]();
  });

  let count = 0;
  /** Runs `script` in a sandbox of its own and returns what it printed. */
  const inside = async (
    script: string,
    spec: Parameters<TestLauncher["create"]>[2] = {},
  ): Promise<string> => {
    const principal = `agent/intruder${count++}`;
    await launcher.create(principal, `(${script}) 2>&1; exit 7`, spec);
    const { exit } = await launcher.exitOf(principal);
    expect(exit?.code).toBe(7);
    await launcher.call("destroy-sandbox", { principal });
    return exit?.output ?? "";
  };

  test("control: a sandbox can read its own files", async () => {
    expect(
      await inside("cat /run/bureau/payload.json; echo; echo $BUREAU_PRINCIPAL_NAME; ls -1 /run/bureau"),
    ).toMatch(/^\{\}\nagent\/intruder\d+\npayload.json\nprograms\nproxy.sock\nsecrets\nservice$/);
  });

  test("the host's home is not there", async () => {
    const output = await inside(`cat ${canary}; ls ${homedir()}; ls /home; ls /root; true`);
    expect(output).not.toContain("home-secret");
    expect(output.match(/No such file/g)?.length).toBe(4);
  });

  test("the launcher's state, run folder and key are not there", async () => {
    const { layout } = launcher;
    const output = await inside(
      `ls ${layout.stateDir} ${layout.runDir}; cat ${layout.stateDir}/machine-key.txt; find / -name 'machine-key*' -o -name 'tmux.sock' -o -name launcher.sock -not -path '/proc/*'`,
    );
    expect(output).not.toContain("AGE-SECRET-KEY");
    expect(output.match(/No such file/g)?.length).toBe(3);
    expect(output).not.toMatch(/^\/.*(key|sock)/m);
  });

  test("another principal's sockets, secrets and admin socket are not there", async () => {
    const paths = launcher.paths("agent/victim");
    const output = await inside(
      `cat ${paths.secrets}/key; ls ${paths.adminSocket} ${paths.proxyLink} ${paths.proxySocket}; find / -name '*.admin.sock' -not -path '/proc/*'`,
    );
    expect(output).not.toContain("victim-key");
    expect(output.match(/No such file/g)?.length).toBe(4);
  });

  test("processes of the host are not there: not the proxy's memory, not its environment, not to signal", async () => {
    const { pid, proxy_pid } = victim;
    // The sandbox has its own pids: none of them is this high.
    const output = await inside(
      `for p in ${proxy_pid} ${pid} ${process.pid}; do test -d /proc/$p && [ $p -gt 60 ] && echo "sees $p"; cat /proc/$p/environ /proc/$p/mem; kill -9 $p; done; ls /proc | grep -c '^[0-9]'`,
    );
    expect(output).not.toContain("sees");
    expect(output).not.toContain("syt_victim");
    expect(Number(output.trim().split("\n").at(-1))).toBeLessThan(10);
    expect((await launcher.status("agent/victim"))?.proxy.state).toBe("running");
  });

  test("the proxy's memory and environment are closed even to the same user outside", () => {
    const attempt = Bun.spawnSync(["cat", `/proc/${victim.proxy_pid}/environ`]);
    // Only root may read it.
    if (process.getuid?.() !== 0) expect(attempt.exitCode).not.toBe(0);
    expect(attempt.stdout.toString()).not.toContain("syt_victim");
  });

  test("no command line of the host contains a secret", () => {
    const lines = launcher.processes().map(({ args }) => args.join(" "));
    expect(lines.length).toBeGreaterThan(2);
    expect(lines.join("\n")).not.toContain("victim-key");
    expect(lines.join("\n")).not.toContain("syt_victim");
  });

  const dial = (port: number): string =>
    `bash -c 'exec 3<>/dev/tcp/127.0.0.1/${port} && echo connected || echo refused'`;

  test("the host's network is not there, unless the template shares it", async () => {
    expect(await inside(dial(listener.port))).toContain("refused");
    expect(await inside(dial(listener.port), { spec: { namespaces: { net: false } } })).toContain(
      "connected",
    );
  });

  test("Bureau's files in /run/bureau cannot be changed", async () => {
    const output = await inside(
      "echo hacked >/run/bureau/payload.json; rm /run/bureau/payload.json; touch /run/bureau/new; rm /run/bureau/proxy.sock; touch /run/bureau/programs/x; umount /run/bureau; mount -o remount,rw /run/bureau; cat /run/bureau/payload.json; test -S /run/bureau/proxy.sock && echo; echo still",
    );
    expect(output).not.toContain("hacked");
    expect(output).toContain("{}\nstill");
    expect(output.match(/Read-only file system/g)?.length).toBeGreaterThanOrEqual(4);
  });

  test("an agent has no folder to listen in; a service's folder is small, and is not the host's", async () => {
    expect(await inside("ls /run/bureau/listen")).toContain("No such file");
    const fill =
      "cd /run/bureau/listen; mkdir shut; chmod 0 shut; head -c 4000000 /dev/zero >big; wc -c <big; echo filled";
    await launcher.create("service/greedy", `(${fill}) 2>&1; sleep 1000`);
    await launcher.until("it has tried", async () =>
      (await launcher.output("service/greedy")).includes("filled"),
    );
    const output = await launcher.output("service/greedy");
    expect(output).toContain("No space left on device");
    expect(Number(/^(\d+)$/m.exec(output)?.[1])).toBeLessThanOrEqual(1024 * 1024);
    const paths = launcher.paths("service/greedy");
    expect(readdirSync(paths.listen)).toEqual(["service.sock"]);
    expect(
      await launcher.call("destroy-sandbox", { principal: "service/greedy", force: true }),
    ).toMatchObject({
      exit: { code: 137 },
    });
    expect(existsSync(paths.dir)).toBe(false);
  });

  test("a link instead of a service's socket does not lead to a socket of the host", async () => {
    const { layout } = launcher;
    const link = `ln -s ${layout.runDir}/launcher.sock /run/bureau/listen/service.sock`;
    await launcher.create("service/planter", `${link}; echo linked; sleep 1000`);
    await launcher.until("it is linked", async () =>
      (await launcher.output("service/planter")).includes("linked"),
    );
    const { serviceLink } = launcher.paths("service/planter");
    const asked = callCbor(serviceLink ?? "", { action: "status" }, v.unknown(), { peer: "service" });
    await expect(asked).rejects.toThrow();
    await launcher.call("destroy-sandbox", { principal: "service/planter", force: true });
  });

  test("the host's programs cannot be changed, and no capability allows it", async () => {
    const output = await inside(
      "touch /usr/bin/evil; echo x >/etc/passwd; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; id -u",
    );
    expect(output.match(/Read-only file system/g)).toHaveLength(2);
    expect(output).toMatch(/CapEff:\s+0{16}\n/);
    expect(output).toMatch(/NoNewPrivs:\s+1/);
    expect(output.trim().split("\n").at(-1)).not.toBe("0");
  });

  test("the host's files in /proc are read-only, for every user of the launcher", async () => {
    // Some of these settings belong to the sandbox's own namespaces.
    const mixed = ["net", "user", "fs/mqueue", "kernel"]
      .map((name) => `-path /proc/sys/${name}`)
      .join(" -o ");
    const output = await inside(
      `find /proc '(' -path '/proc/[0-9]*' -o -path /proc/pressure -o ${mixed} ')' -prune -o -type f -writable -print 2>/dev/null;
       for name in core_pattern modprobe panic; do test -w /proc/sys/kernel/$name && echo $name; done;
       cat /proc/slabinfo 2>/dev/null | wc -c; cat /proc/sys/kernel/ostype`,
    );
    expect(output).toBe("0\nLinux");
  });

  test("a link planted in the workspace does not lead out with the next mount", async () => {
    const planted = join(launcher.layout.workspaceRoot, "planted");
    mkdirSync(launcher.layout.workspaceRoot, { recursive: true });
    symlinkSync(launcher.layout.stateDir, planted);
    const attempt = launcher.create("agent/planter", "true", {
      spec: { filesystem: [{ source: "${WORKSPACE_ROOT}/planted", dest: "/data" }] },
    });
    await expect(attempt).rejects.toThrow("leads out of");
    await attempt.catch(() => {});
    expect(await launcher.status("agent/planter")).toBeUndefined();
  });

  test("mount points in a kept folder are created beneath it, without following links", async () => {
    const workspace = launcher.layout.workspaceRoot;
    const [kept, outside] = [join(workspace, "kept"), join(launcher.root, "outside")];
    for (const path of [join(workspace, "tool"), outside]) mkdirSync(path, { recursive: true });
    writeFileSync(join(workspace, "tool/word"), "seen");
    const spec = {
      filesystem: [
        { source: "${WORKSPACE_ROOT}/kept", dest: "/workspace", mode: "rw" as const },
        { source: "${WORKSPACE_ROOT}/tool", dest: "/workspace/own/tool" },
      ],
      create_dirs: ["/workspace/logs"],
    };
    expect(await inside("cat /workspace/own/tool/word; ls -1 /workspace", { spec })).toBe("seenlogs\nown");
    await inside(`cd /workspace && rm -r logs && ln -s ${outside} logs`, {
      spec: { ...spec, create_dirs: [] },
    });
    for (const folder of ["/workspace/logs", "/workspace/logs/deep"]) {
      const attempt = launcher.create("agent/nester", "true", { spec: { ...spec, create_dirs: [folder] } });
      await expect(attempt).rejects.toThrow('"logs" in');
    }
    expect(readdirSync(outside)).toEqual([]);
    expect(readdirSync(kept).sort()).toEqual(["logs", "own"]);
    expect(await launcher.status("agent/nester")).toBeUndefined();
  });

  test("detects, before the program runs, a folder swapped for a link between the check and the mount", async () => {
    const workspace = launcher.layout.workspaceRoot;
    const secret = join(launcher.root, "secret");
    mkdirSync(secret);
    mkdirSync(join(workspace, "swapped"));
    // Replaces bubblewrap on PATH, and swaps the folder at the worst moment.
    const tools = join(launcher.root, "tools");
    mkdirSync(tools);
    const swap = `/bin/mv ${workspace}/swapped ${workspace}/away; /bin/ln -s ${secret} ${workspace}/swapped`;
    writeFileSync(join(tools, "bwrap"), `#!/bin/sh\n${swap}\nexec ${Bun.which("bwrap")} "$@"\n`, {
      mode: 0o755,
    });
    const path = process.env["PATH"] ?? "";
    process.env["PATH"] = `${tools}:${path}`;
    await using deceived = new TestLauncher();
    try {
      await deceived.start(undefined, { layout: { ...deceived.layout, workspaceRoot: workspace } });
    } finally {
      process.env["PATH"] = path;
    }
    const attempt = deceived.create("agent/swapper", `touch /data/ran; sleep 5`, {
      spec: { filesystem: [{ source: "${WORKSPACE_ROOT}/swapped", dest: "/data", mode: "rw" }] },
    });
    await expect(attempt).rejects.toThrow('is mounted on "/data", but the mount policy allowed another path');
    await attempt.catch(() => {});
    expect(existsSync(join(secret, "ran"))).toBe(false);
    expect((await deceived.call("list-sandboxes", {})).sandboxes).toEqual([]);
  });

  test("a template with a session of its own has no controlling terminal", async () => {
    const tty = "sh -c 'echo x >/dev/tty' || echo none";
    expect(await inside(tty, { spec: { security: { new_session: true } } })).toContain("none");
    expect(await inside(tty)).toBe("x");
  });
});
