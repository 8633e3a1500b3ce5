/** Limits of a sandbox without control groups, and with the groups that the host delegates. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { tmuxSocket } from "@bureau/os/layout";
import { runToEnd } from "@bureau/os/run-to-end";
import { TestLauncher } from "../testing/launcher-fixture.ts";
import { ControlGroups, groupOf } from "./control-groups.ts";
import { resourceLimits } from "./resource-limits.ts";

let launcher: TestLauncher;
beforeAll(async () => {
  launcher = await new TestLauncher().start();
});
afterAll(() => launcher[Symbol.asyncDispose]());

const MEBIBYTE = 1 << 20;

/** The output of `script` in a sandbox of its own. */
async function printed(name: string, script: string, resources = {}): Promise<string> {
  await launcher.create(`agent/${name}`, script, { spec: { resources } });
  await launcher.exitOf(`agent/${name}`);
  return await launcher.output(`agent/${name}`);
}

describe("in a sandbox", () => {
  test("every writable file system has a size limit", async () => {
    const text = await printed("mounts", "cat /proc/self/mountinfo", { memory_limit_mb: 64 });
    const writable = text
      .split("\n")
      .map((line) => / - tmpfs \S+ (\S+)$/.exec(line) && { line, point: line.split(" ")[4] ?? "" })
      .filter((found) => found !== null && found !== undefined)
      .filter(({ line }) => / rw[, ]/.test(line.split(" - ")[0] ?? ""));
    const ours = writable.filter(({ line }) => line.split(" ")[3] === "/");
    expect(ours.map(({ point }) => point)).toEqual(
      expect.arrayContaining(["/tmp", "/dev/shm", "/workspace"]),
    );
    expect(ours.filter(({ line }) => !line.includes(`size=${(32 * MEBIBYTE) / 1024}k`))).toEqual([]);
  });

  test("a full tmpfs refuses writes, and the root is read-only", async () => {
    const script =
      "head -c 40000000 /dev/zero >/tmp/big; echo tmp $?; touch /x; echo root $?; touch /dev/x; echo dev $?";
    const text = await printed("full", script, { memory_limit_mb: 64 });
    expect(text).toContain("No space left on device");
    expect(text).not.toContain("tmp 0");
    expect(text.match(/Read-only file system/g)).toHaveLength(2);
  });

  test("processes and open files are limited, and nothing dumps core", async () => {
    const text = await printed("rlimits", "cat /proc/self/limits", { pids_limit: 100 });
    expect(text).toMatch(/Max core file size\s+0\s+0\s/);
    expect(text).toMatch(/Max processes\s+104\s+104\s/);
    const files = Number(/Max open files\s+\d+\s+(\d+)/.exec(text)?.[1]);
    expect(files).toBeLessThanOrEqual(65_536);
  });

  // The kernel does not count root's processes: control groups limit them instead.
  test.skipIf(process.getuid?.() === 0)("a program cannot start more processes than it may", async () => {
    // Background processes keep no file open: the script ends when it cannot continue.
    const script =
      "(i=0; while [ $i -lt 60 ]; do sleep 60 >/dev/null 2>&1 & i=$((i+1)); done) 2>&1; echo over";
    expect(await printed("forks", script, { pids_limit: 30 })).toMatch(/fork/i);
  });

  test("its terminal has a bounded history", async () => {
    const said = await runToEnd(
      ["tmux", "-S", tmuxSocket(launcher.layout), "show-options", "-gv", "history-limit"],
      {
        what: "tmux",
        timeoutMs: 10_000,
      },
    );
    expect(Number(said.stdout)).toBeLessThanOrEqual(10_000);
  });
});

describe("with delegated control groups", () => {
  const level = (): Promise<string> =>
    launcher.call("list-sandboxes", {}).then(({ limits }) => limits?.level ?? "unknown");

  test("the launcher reports which limits it enforces, and a sandbox keeps the limits from its creation", async () => {
    const { limits } = await launcher.call("list-sandboxes", {});
    if (limits?.level !== "enforced") expect(limits?.reason).toBeTruthy();
    await launcher.create("agent/fact", "sleep 1000");
    expect((await launcher.status("agent/fact"))?.confinement?.limits).toEqual(limits);
    await launcher.call("destroy-sandbox", { principal: "agent/fact", force: true });
  });

  test("a sandbox has a group of its own that is removed with it; its shell and proxy are not in it", async () => {
    if ((await level()) === "none") return;
    await launcher.create("agent/alone", "setsid sleep 1000 & sleep 1000");
    const status = await launcher.status("agent/alone");
    const group = groupOf(status?.pid ?? 0) ?? "";
    expect(group).toEndWith("/agent+alone");
    expect(groupOf(status?.proxy.pid ?? 0)).not.toBe(group);
    const folder = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
      .map((hierarchy) => join(hierarchy, group))
      .find((path) => existsSync(join(path, "cgroup.procs")));
    const pids = readFileSync(join(folder ?? "", "cgroup.procs"), "utf8")
      .trim()
      .split("\n");
    expect(pids.length).toBeGreaterThanOrEqual(4);
    expect(pids).toContain(String(status?.pid));
    await launcher.call("destroy-sandbox", { principal: "agent/alone", force: true });
    expect(existsSync(folder ?? "")).toBe(false);
  });
});

test("without a delegated group the launcher enforces no limits, and reports the reason", async () => {
  const groups = new ControlGroups("test", ["/nonexistent"]);
  groups.prepare(process.pid);
  expect(groups.fact).toEqual({ level: "none", reason: "cgroup version 2 is not mounted" });
  expect(await groups.make("agent+a", resourceLimits({}, MEBIBYTE), systemClock)).toBeUndefined();
});
