/** The main task, end to end: the first commands of a person, with the real programs. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { isAlive } from "@bureau/os/process-table";
import { processesOf } from "@bureau/testkit/bureau";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

type Status = {
  machine: { state: string; name: string };
  daemon: { pid: number };
  launcher: { pid: number };
  homeserver: { pid: number };
  principals: { name: string; state: string; pid?: number; reason?: string }[];
};
type Agent = { name: string; state: string };

let firstUp = { greeting: "", first_run: false };
const running = useBureau((printed) => {
  firstUp = printed as typeof firstUp;
});
const json = <T = unknown>(...args: string[]): Promise<T> => running().json<T>(...args);
const run = (...args: string[]) => running().run(...args);

describe("bureau up", () => {
  test("returns when the machine is online and the first agent has spoken", async () => {
    expect(firstUp.first_run).toBe(true);
    expect(firstUp.greeting.length).toBeGreaterThan(5);
    const status = await json<Status>("status");
    expect(status.machine.state).toBe("online");
    for (const program of [status.daemon, status.launcher, status.homeserver])
      expect(program.pid).toBeGreaterThan(1);
    expect(status.principals).toEqual([expect.objectContaining({ name: "agent/greeter", state: "running" })]);
  });

  test("run again changes nothing: the same processes run", async () => {
    const before = await json<Status>("status");
    expect((await json<{ first_run: boolean }>("up")).first_run).toBe(false);
    const after = await json<Status>("status");
    for (const program of ["daemon", "launcher", "homeserver"] as const)
      expect(after[program].pid).toBe(before[program].pid);
    expect(after.principals[0]?.pid).toBe(before.principals[0]?.pid as number);
  });

  test("the greeter answers a person who writes to it", async () => {
    const session = running().session();
    await json("matrix", "send", "bureau/lobby", "hello greeter");
    await eventually(async () => {
      const { messages } = await json<{ messages: { sender: string; content: { body: string } }[] }>(
        "matrix",
        "messages",
        "bureau/lobby",
      );
      const mine = messages.findIndex(
        ({ sender, content }) => sender === session.userId && content.body === "hello greeter",
      );
      return messages.slice(mine + 1).find(({ sender }) => sender.includes("/agent/greeter:"));
    });
  });
});

describe("agents", () => {
  test("are created running, show their output, and are listed", async () => {
    const created = await json<Agent>("agent", "create", "demo", "--command", "echo hello; sleep 1000");
    expect(created).toMatchObject({ name: "demo", state: "running" });
    await eventually(async () => {
      const { code, stdout } = await run("agent", "logs", "demo");
      return (code === 0 && stdout === "hello\n") || undefined;
    });
    expect(await json<Agent[]>("agent", "list")).toContainEqual(
      expect.objectContaining({ name: "demo", state: "running" }),
    );
  });

  test("that end by themselves as asked are completed, and their last output stays readable", async () => {
    await json("agent", "create", "once", "--command", "echo last words", "--restart-policy", "never");
    await eventually(async () =>
      (await json<Agent[]>("agent", "list")).find(
        ({ name, state }) => name === "once" && state === "completed",
      ),
    );
    expect((await run("agent", "logs", "once")).stdout).toContain("last words");
  });

  test("that fail back off, report why, and send their output to the config room", async () => {
    await run("agent", "create", "broken", "--command", "echo about to fail >&2; exit 7");
    const broken = await eventually(async () =>
      (await json<(Agent & { reason?: string })[]>("agent", "list")).find(
        ({ name, state }) => name === "broken" && state === "backing-off",
      ),
    );
    expect(broken.reason).toContain("7");
    const { machine } = await json<Status>("status");
    await eventually(async () => {
      const { messages } = await json<{ messages: { content: Record<string, unknown> }[] }>(
        "matrix",
        "messages",
        machine.name,
        "--limit",
        "100",
      );
      return messages.find(
        ({ content }) =>
          content["msgtype"] === "m.bureau.sandbox_exited" &&
          content["exit_code"] === 7 &&
          String(content["captured_output"]).includes("about to fail"),
      );
    });
    await json("agent", "destroy", "broken");
  });

  test("that are destroyed leave the list, and can be created again with the same name", async () => {
    await json("agent", "create", "brief", "--command", "sleep 1000");
    await json("agent", "destroy", "brief");
    expect((await json<Agent[]>("agent", "list")).map(({ name }) => name)).not.toContain("brief");
    await json("agent", "create", "brief", "--command", "echo again; sleep 1000");
    await eventually(async () => (await run("agent", "logs", "brief")).stdout.includes("again") || undefined);
    await json("agent", "destroy", "brief", "--purge");
  });

  test("that are created again with another command run it when the command returns", async () => {
    const create = (word: string) =>
      json<Agent & { pid: number }>("agent", "create", "changing", "--command", `echo ${word}; sleep 1000`);
    const pids = new Set<number>();
    for (const word of ["one", "two", "three"]) {
      const { state, pid } = await create(word);
      expect(state).toBe("running");
      pids.add(pid);
      await eventually(async () =>
        (await run("agent", "logs", "changing")).stdout.includes(word) ? true : undefined,
      );
    }
    expect(pids.size).toBe(3);
    const again = await create("three");
    expect(pids.has(again.pid)).toBe(true);
    await json("agent", "destroy", "changing");
  });

  test("get a new payload while they run, and a signal if they listen for one", async () => {
    const script = "trap 'cat /run/bureau/payload.json' HUP; echo ready; while :; do sleep 0.05; done";
    await json("agent", "create", "listener", "--command", script, "--payload", '{"n":1}');
    await eventually(async () =>
      (await run("agent", "logs", "listener")).stdout.includes("ready") ? true : undefined,
    );
    const pid = async () =>
      (await json<Status>("status")).principals.find(({ name }) => name === "agent/listener")?.pid;
    const before = await pid();
    await json("agent", "create", "listener", "--command", script, "--payload", '{"n":2}');
    await eventually(async () =>
      (await run("agent", "logs", "listener")).stdout.includes('"n":2') ? true : undefined,
    );
    expect(await pid()).toBe(before);
    await json("agent", "destroy", "listener");
  });

  test("are confined by layers that the kernel confirms", async () => {
    await json("agent", "create", "confined", "--command", "sleep 1000");
    const { sandbox } = await json<{ sandbox: { layers: Record<string, boolean>; exceptions: string[] } }>(
      "agent",
      "show",
      "confined",
    );
    expect(sandbox).toMatchObject({ layers: { seccomp: true, network_namespace: true }, exceptions: [] });
    expect((await run("agent", "show", "confined")).stdout).toMatch(/^sandbox +seccomp, no new privs/m);
    await json("agent", "destroy", "confined");
  });

  test("with an unknown template are refused before any account or room exists", async () => {
    const refused = await run("agent", "create", "x", "--template", "bureau/template:nope");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("bureau/template:nope");
    expect((await json<Agent[]>("agent", "list")).map(({ name }) => name)).not.toContain("x");
  });

  test("with an invalid name are refused with the violated rule", async () => {
    for (const name of ["../up", "UPPER", "a//b", ".hidden", "x".repeat(80)]) {
      const refused = await run("agent", "create", name);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("Invalid");
    }
  });
});

describe("labels of a machine", () => {
  test("are set, changed and removed; invalid ones are refused", async () => {
    const { name } = (await json<Status>("status")).machine;
    const label = async (...labels: string[]) =>
      (await json<{ labels: object }>("machine", "label", name, ...labels)).labels;
    expect(await label()).toEqual({});
    expect(await label("gpu=a100", "ring=canary")).toEqual({ gpu: "a100", ring: "canary" });
    expect(await label("ring=", "gpu=h100=2")).toEqual({ gpu: "h100=2" });
    for (const wrong of ["gpu", "=x", "a b=c"])
      expect(await run("machine", "label", name, wrong)).toMatchObject({ code: 2 });
    expect((await run("machine", "label", "unknown", "a=b")).stderr).toContain("There is no machine");
    const [listed] = (await json<{ machines: { labels: object }[] }>("machine", "list")).machines;
    expect(listed?.labels).toEqual({ gpu: "h100=2" });
  });
});

describe("bureau down", () => {
  test("then up starts every agent again; then down leaves no process and no socket", async () => {
    const processes = processesOf(running().layout);
    expect(processes.length).toBeGreaterThan(4);
    await json("down");
    expect(processes.filter(isAlive)).toEqual([]);
    await json("up");
    expect(await json("machine", "show")).toMatchObject({ labels: { gpu: "h100=2" } });
    expect(await json<Agent[]>("agent", "list")).toContainEqual(
      expect.objectContaining({ name: "demo", state: "running" }),
    );
    expect(await json<Agent[]>("agent", "list")).toContainEqual(
      expect.objectContaining({ name: "once", state: "completed" }),
    );
    await json("down");
    expect(processesOf(running().layout)).toEqual([]);
    expect(existsSync(running().layout.runDir) ? readdirSync(running().layout.runDir) : []).toEqual([]);
    expect((await run("status")).code).toBe(1);
    await json("down");
  }, 90_000);
});
