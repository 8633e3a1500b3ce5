import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { TestLauncher } from "./launcher-fixture.ts";

describe("sandboxes", () => {
  let launcher: TestLauncher;
  beforeAll(async () => {
    launcher = await new TestLauncher().start();
  });
  afterAll(async () => {
    await launcher[Symbol.asyncDispose]();
  });

  test("a program's exit code and output are kept until it is destroyed", async () => {
    const created = await launcher.create("agent/exits", "echo first; echo last; exit 3");
    expect(created.proxy_pid).toBeGreaterThan(1);
    const status = await launcher.exitOf("agent/exits");
    expect(status.exit).toMatchObject({ code: 3, description: "exited with 3", output: "first\nlast" });
    expect(await launcher.call("destroy-sandbox", { principal: "agent/exits" })).toMatchObject({
      exit: { code: 3 },
    });
    expect(await launcher.status("agent/exits")).toBeUndefined();
    expect(existsSync(launcher.paths("agent/exits").dir)).toBe(false);
    expect(await launcher.call("capture-output", { principal: "agent/exits", lines: 1 })).toEqual({
      output: "last",
      live: false,
    });
  });

  test("a running sandbox is listed, and destroying it ends the program politely", async () => {
    const created = await launcher.create(
      "agent/runs",
      "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
    );
    const status = await launcher.status("agent/runs");
    expect(status).toMatchObject({
      state: "running",
      pid: created.pid,
      proxy: { state: "running", pid: created.proxy_pid },
      digests: { spec: "s1", payload: "p1" },
    });
    await launcher.until("the trap is set", async () => (await launcher.output("agent/runs")).includes("up"));
    const { exit } = await launcher.call("destroy-sandbox", { principal: "agent/runs" });
    expect(exit).toMatchObject({ code: 0, description: "exited with 0" });
    expect(await launcher.output("agent/runs")).toBe("up\nbye");
  });
});
