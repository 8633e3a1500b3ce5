import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { callCbor } from "@bureau/os/cbor-client";
import { fleetRunDir, launcherSocket, tmuxSocket } from "@bureau/os/layout";
import { findInhabitants } from "@bureau/os/mounts";
import { stopProcess, waitUntilGone } from "@bureau/os/process-end";
import { childrenOf, findByArguments, identify, isAlive, signalProcess } from "@bureau/os/process-table";
import { unknown } from "valibot";
import { SPARE_PROXIES } from "../spare-proxies.ts";
import { CONTROL_SESSION } from "../terminal/tmux-control.ts";
import { TestLauncher } from "../testing/launcher-fixture.ts";

const FOREVER = "while :; do sleep 0.05; done";
const tmux = (launcher: TestLauncher, ...args: string[]): string =>
  Bun.spawnSync(["tmux", "-S", tmuxSocket(launcher.layout), ...args]).stdout.toString();

/** Files and sockets below the fleet's run folder, and processes that name the test's folder. */
function traces(launcher: TestLauncher): string[] {
  const root = fleetRunDir(launcher.layout, launcher.config.fleet);
  const files = existsSync(root)
    ? readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory())
    : [];
  const folders = existsSync(join(root, "sandbox")) ? readdirSync(join(root, "sandbox")) : [];
  // A tmux server keeps the command line of the client that started it.
  const sandboxed = launcher
    .processes()
    .filter(({ args }) => args[0] !== "tmux" && args.some((arg) => arg.includes(`${root}/sandbox/`)));
  return [
    ...files.map((entry) => join(entry.parentPath, entry.name)),
    ...folders,
    ...sandboxed.map(({ args }) => args.join(" ")),
  ];
}

describe("a launcher that was killed", () => {
  test("leaves sandboxes and proxies running, and the next one adopts them", async () => {
    await using launcher = new TestLauncher();
    await launcher.spawn();
    const runs = await launcher.create("agent/runs", `trap 'echo hup' HUP; ${FOREVER}`);
    const ends = await launcher.create("agent/ends", `trap 'echo told; exit 4' USR1; echo up; ${FOREVER}`);
    const loses = await launcher.create("agent/loses", FOREVER);
    const unproxied = await launcher.create("agent/unproxied", FOREVER);
    const before = await launcher.status("agent/runs");
    await launcher.until("it listens", async () => (await launcher.output("agent/ends")).includes("up"));
    await launcher.kill();
    expect(identify(runs.pid ?? 0)).toBeDefined();
    expect(identify(runs.proxy_pid)).toBeDefined();
    // Other requests run meanwhile.
    process.kill(ends.pid ?? 0, "SIGUSR1");
    await launcher.until("the exit code is written", () => existsSync(launcher.paths("agent/ends").exitCode));
    tmux(launcher, "kill-session", "-t", "=bureau/agent/loses");
    process.kill(unproxied.proxy_pid, "SIGKILL");
    await launcher.until("the lost program is gone", () => identify(loses.pid ?? 0) === undefined);

    await launcher.spawn();
    expect(await launcher.status("agent/runs")).toEqual(before);
    expect((await launcher.status("agent/ends"))?.exit).toMatchObject({ code: 4, output: "up\ntold" });
    expect((await launcher.status("agent/loses"))?.exit).toMatchObject({
      code: -1,
      description: expect.stringContaining("lost:"),
    });
    expect(await launcher.status("agent/unproxied")).toMatchObject({
      state: "running",
      proxy: { state: "dead" },
    });
    // An adopted sandbox works like a created one: exits are seen, payloads reach it, it can be destroyed.
    const updated = await launcher.call("update-payload", {
      principal: "agent/runs",
      payload: {},
      payload_digest: "p",
    });
    expect(updated).toEqual({ signalled: true });
    await launcher.call("signal-sandbox", { principal: "agent/runs", signal: 9 });
    expect((await launcher.exitOf("agent/runs")).exit).toMatchObject({ code: 137 });
    for (const name of ["runs", "ends", "loses", "unproxied"])
      await launcher.call("destroy-sandbox", { principal: `agent/${name}`, force: true });
    expect(traces(launcher)).toEqual([]);
  });

  test("leaves incomplete sandboxes, which the next launcher removes", async () => {
    await using launcher = new TestLauncher();
    await launcher.spawn();
    const half = await launcher.create("agent/half", FOREVER);
    const corrupt = await launcher.create("agent/corrupt", FOREVER);
    const unrecorded = await launcher.create("agent/unrecorded", FOREVER);
    await launcher.kill();
    const paths = launcher.paths("agent/half");
    const record = JSON.parse(readFileSync(paths.record, "utf8"));
    writeFileSync(
      paths.record,
      JSON.stringify({ ...record, phase: "creating", proxy: undefined, processes: undefined }),
    );
    writeFileSync(launcher.paths("agent/corrupt").record, "{");
    Bun.spawnSync(["rm", "-rf", launcher.paths("agent/unrecorded").dir]);
    tmux(launcher, "new-session", "-d", "-s", "bureau/agent/stranger", "sleep 100");
    tmux(launcher, "new-session", "-d", "-s", "mine", "sleep 100");
    writeFileSync(join(fleetRunDir(launcher.layout, launcher.config.fleet), "sandbox", "NOT A NAME"), "");
    mkdirSync(join(launcher.layout.runDir, "spare-Ab12yz/inside"), { recursive: true });
    const unfinished = ["old", "new"].map((age) => join(launcher.layout.stateDir, `${age}.0123456789ab.tmp`));
    for (const path of unfinished) writeFileSync(path, "a secret");
    utimesSync(unfinished[0] ?? "", 0, 0);

    await launcher.spawn();
    expect((await launcher.call("list-sandboxes", {})).sandboxes).toEqual([]);
    await launcher.cleared();
    for (const { pid, proxy_pid } of [half, corrupt, unrecorded])
      await launcher.until(
        "its processes are gone",
        () => identify(pid ?? 0) === undefined && identify(proxy_pid) === undefined,
      );
    expect(traces(launcher)).toEqual([]);
    expect(existsSync(join(launcher.layout.runDir, "spare-Ab12yz"))).toBe(false);
    // A file that is being written may still be renamed.
    expect(unfinished.map((path) => existsSync(path))).toEqual([false, true]);
    const sessions = tmux(launcher, "list-sessions", "-F", "#{session_name}").trim().split("\n");
    expect(sessions.filter((name) => name !== CONTROL_SESSION)).toEqual(["mine"]);
    // Only the new launcher's spares are left of all proxies.
    await launcher.until(
      "only spares",
      () => findByArguments("--run-dir", launcher.layout.runDir, "--spare").length === SPARE_PROXIES,
    );
  });

  test("leaves one that the next launcher cannot remove: it manages all others as usual", async () => {
    await using launcher = new TestLauncher();
    await launcher.spawn();
    await launcher.create("agent/half", FOREVER);
    await launcher.create("agent/runs", FOREVER);
    await launcher.kill();
    const paths = launcher.paths("agent/half");
    const record = JSON.parse(readFileSync(paths.record, "utf8"));
    writeFileSync(paths.record, JSON.stringify({ ...record, phase: "creating", processes: undefined }));
    // Removing the file fails when there is a folder in its place.
    rmSync(paths.proxyLink);
    mkdirSync(join(paths.proxyLink, "full"), { recursive: true });

    await launcher.spawn();
    await launcher.cleared();
    expect((await launcher.status("agent/runs"))?.state).toBe("running");
    await expect(launcher.create("agent/half", FOREVER)).rejects.toThrow("agent/half");
    rmSync(paths.proxyLink, { recursive: true });
    await launcher.create("agent/half", FOREVER);
    expect((await launcher.status("agent/half"))?.state).toBe("running");
  });

  test("is followed by one that answers at once, and delays changes until leftovers are removed", async () => {
    await using launcher = new TestLauncher();
    await launcher.spawn();
    for (const name of ["runs", "condemned"]) await launcher.create(`agent/${name}`, FOREVER);
    await launcher.kill();
    // A proxy without a sandbox that ignores SIGTERM.
    const deaf = Bun.spawn(
      ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"].concat([
        ...["sh", "--run-dir", launcher.layout.runDir, "--sandbox"],
      ]),
      { stdout: "pipe" },
    );
    await deaf.stdout.getReader().read();
    const answers = async (): Promise<boolean> =>
      (await launcher.status("agent/runs").catch(() => undefined))?.state === "running" &&
      deaf.signalCode === null;
    const spawned = launcher.spawn();
    await launcher.until("it answers while the deaf proxy still lives", answers);
    // The clients disconnect before these requests start.
    const asked = new AbortController();
    const ask = (request: { action: string; [field: string]: unknown }): Promise<unknown> =>
      callCbor(launcherSocket(launcher.layout), request, unknown(), {
        peer: "launcher",
        signal: asked.signal,
      });
    const made = { sandbox_spec: { command: ["/bin/sh"] }, digests: { spec: "s", payload: "p" } };
    const given = [
      ask({ action: "create-sandbox", principal: "agent/never", ...made }),
      ask({ action: "destroy-sandbox", principal: "agent/runs" }),
      ask({ action: "destroy-sandbox", principal: "agent/condemned", force: true }),
    ];
    await launcher.status("agent/runs");
    asked.abort();
    await Promise.allSettled(given);
    await spawned;
    await launcher.create("agent/new", FOREVER);
    expect(await deaf.exited).not.toBe(0);
    expect(deaf.signalCode).toBe("SIGKILL");
    expect((await launcher.status("agent/new"))?.proxy?.state).toBe("running");
    await launcher.until(
      "the killed processes have ended",
      async () => (await launcher.status("agent/condemned")) === undefined,
    );
    expect([await launcher.status("agent/never"), (await launcher.status("agent/runs"))?.state]).toEqual([
      undefined,
      "running",
    ]);
    for (const name of ["runs", "new"])
      await launcher.call("destroy-sandbox", { principal: `agent/${name}`, force: true });
    expect(traces(launcher)).toEqual([]);
  });

  test("and whose machine rebooted does not use process ids of the earlier boot", async () => {
    await using launcher = new TestLauncher();
    await launcher.spawn();
    const names = ["agent/ended", "agent/running"] as const;
    await launcher.create(names[0], "exit 5");
    await launcher.exitOf(names[0]);
    await launcher.create(names[1], FOREVER);
    await launcher.kill();
    // After the reboot, the process ids of the record belong to other processes.
    const stranger = Bun.spawn(["sleep", "100"]);
    try {
      for (const name of names) {
        const { record } = launcher.paths(name);
        const id = identify(stranger.pid);
        const content = {
          ...JSON.parse(readFileSync(record, "utf8")),
          boot: "earlier",
          proxy: id,
          processes: { shell: id, init: id },
        };
        writeFileSync(record, JSON.stringify(content));
      }
      await launcher.spawn();
      const { sandboxes } = await launcher.call("list-sandboxes", {});
      expect(sandboxes).toMatchObject([{ principal: names[0], state: "exited", exit: { code: 5 } }]);
      await launcher.call("destroy-sandbox", { principal: names[0] });
      expect(identify(stranger.pid)).toBeDefined();
      expect(traces(launcher)).toEqual([]);
    } finally {
      stranger.kill();
    }
  });

  test("has one successor: a second launcher of a state folder is refused", async () => {
    await using launcher = new TestLauncher();
    const { pid } = await launcher.spawn();
    const refusal = await launcher.spawn().catch((error: Error) => error.message);
    expect(refusal).toContain("another launcher uses the state folder");
    expect(await launcher.call("status", {})).toMatchObject({ pid });
    await stopProcess(
      findByArguments("--state-dir", launcher.layout.stateDir)[0] ?? { pid: 0, startTicks: 0 },
      8_000,
      systemClock,
    );
  });
});

test("SIGTERM ends every sandbox in order and leaves no process, socket or file", async () => {
  await using launcher = new TestLauncher();
  const program = await launcher.spawn();
  const made = await Promise.all([
    launcher.create("agent/polite", `trap 'echo bye; exit 0' TERM; echo up; ${FOREVER}`),
    launcher.create("agent/ended", "exit 3"),
    launcher.create("service/x", FOREVER),
  ]);
  await launcher.until("the trap is set", async () => (await launcher.output("agent/polite")).includes("up"));
  await launcher.exitOf("agent/ended");
  signalProcess(program, "SIGTERM");
  await launcher.until("it is gone", () => !isAlive(program));
  expect(traces(launcher)).toEqual([]);
  expect(launcher.processes()).toEqual([]);
  for (const { pid, proxy_pid } of made)
    expect([identify(pid ?? 0), identify(proxy_pid)]).toEqual([undefined, undefined]);
  expect(
    [launcherSocket(launcher.layout), tmuxSocket(launcher.layout)].filter((path) => existsSync(path)),
  ).toEqual([]);
  expect(readFileSync(join(launcher.layout.stateDir, "last-output/agent+polite.txt"), "utf8")).toBe(
    "up\nbye",
  );
});

test("SIGTERM shortens the long grace of a sandbox, and ends the others without waiting for it", async () => {
  await using launcher = new TestLauncher();
  const program = await launcher.spawn();
  await launcher.create("agent/deaf", `trap 'echo asked' TERM; echo up; ${FOREVER}`);
  await launcher.create("agent/polite", `trap 'echo bye; exit 0' TERM; echo up; ${FOREVER}`);
  for (const name of ["agent/deaf", "agent/polite"])
    await launcher.until("the trap is set", async () => (await launcher.output(name)).includes("up"));
  const destroying = launcher
    .call("destroy-sandbox", { principal: "agent/deaf", grace_ms: 600_000 })
    .catch(() => {});
  await launcher.until("it gets SIGTERM", async () =>
    (await launcher.output("agent/deaf")).includes("asked"),
  );
  signalProcess(program, "SIGTERM");
  await launcher.until("it is gone", () => !isAlive(program), 30_000);
  await destroying;
  expect(traces(launcher)).toEqual([]);
  expect(readFileSync(join(launcher.layout.stateDir, "last-output/agent+polite.txt"), "utf8")).toContain(
    "bye",
  );
});

test("does not take a tmux server for a sandbox whose creation started it", async () => {
  await using launcher = new TestLauncher();
  const { script } = launcher.paths("agent/x");
  // It keeps the arguments of the client that started it.
  const started = [
    "new-session",
    "-d",
    "-s",
    "mine",
    "sleep 1000",
    ";",
    "new-session",
    "-d",
    "/bin/sh",
    script,
  ];
  tmux(launcher, "set", "-g", "remain-on-exit", "on", ";", ...started);
  await launcher.start();
  const { pid } = await launcher.create("agent/other", FOREVER);
  const fails = launcher.create("agent/x", undefined, { spec: { command: ["/no/such/program"] } });
  await expect(fails).rejects.toThrow("/no/such/program");
  expect(await launcher.status("agent/other")).toMatchObject({ state: "running", pid });
  await launcher.call("destroy-sandbox", { principal: "agent/other", force: true });
});

test("stopping the launcher kills a tmux server that hangs", async () => {
  await using launcher = await new TestLauncher().start();
  const [server] = tmux(launcher, "display-message", "-p", "#{pid}").split("\n");
  const hanging = identify(Number(server));
  if (hanging === undefined) throw new Error("there is no tmux server");
  signalProcess(hanging, "SIGSTOP");
  await launcher.stop();
  expect(await waitUntilGone(hanging, 1_000, systemClock)).toBe(true);
}, 60_000);

describe("any program dies, in any order", () => {
  const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  test(`nothing is left after destroy (BUREAU_SEED=${seed})`, async () => {
    let state = seed;
    // A linear congruential generator with the constants of Numerical Recipes: enough to shuffle with.
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    await using launcher = await new TestLauncher().start();
    const children = 'sh -c "trap : TERM HUP INT; while :; do sleep 0.05; done" & setsid sleep 300 & ';
    for (let round = 0; round < 12; round++) {
      const principal = `agent/r${round}`;
      const { pid, proxy_pid } = await launcher.create(principal, `${children} ${FOREVER}`);
      const shell = Number(tmux(launcher, "list-panes", "-t", `=bureau/${principal}:`, "-F", "#{pane_pid}"));
      const bwrap = childrenOf(shell)[0] ?? 0;
      const init = childrenOf(bwrap)[0] ?? 0;
      const server = Number(tmux(launcher, "display-message", "-p", "#{pid}"));
      const victims = [pid ?? 0, proxy_pid, shell, bwrap, init, server];
      const inside = childrenOf(init);
      for (let kills = random(4); kills > 0; kills--) {
        const victim = identify(victims.splice(random(victims.length), 1)[0] ?? 0);
        if (victim !== undefined) signalProcess(victim, random(3) === 0 ? "SIGTERM" : "SIGKILL");
        if (random(2) === 0) await systemClock.sleep(random(20));
      }
      await launcher.call("destroy-sandbox", { principal, force: random(2) === 0, grace_ms: 100 });
      const left = [pid ?? 0, proxy_pid, shell, bwrap, init, ...inside].filter(
        (id) => identify(id) !== undefined,
      );
      expect({ round, left, traces: traces(launcher) }).toEqual({ round, left: [], traces: [] });
    }
  }, 60_000);

  test("creates no sandbox twice when the tmux server is killed meanwhile", async () => {
    await using launcher = await new TestLauncher().start();
    const principals = ["agent/a", "agent/b", "agent/c"];
    let failed = 0;
    for (let round = 0; round < 25; round++) {
      const making = Promise.allSettled(principals.map((principal) => launcher.create(principal, FOREVER)));
      await systemClock.sleep(2 * round);
      for (const server of findByArguments("-S", tmuxSocket(launcher.layout)))
        signalProcess(server, "SIGKILL");
      const results = await making;
      const made = principals.filter((_, index) => results[index]?.status === "fulfilled");
      failed += principals.length - made.length;
      await Promise.all(
        made.map((principal) => launcher.call("destroy-sandbox", { principal, force: true })),
      );
      const left = findInhabitants(launcher.layout.runDir);
      expect({ round, left, traces: traces(launcher) }).toEqual({ round, left: [], traces: [] });
    }
    await launcher.create("agent/after", FOREVER);
    console.log(`the tmux server was killed 25 times: ${failed} of 75 sandboxes were not made`);
  }, 60_000);
});
