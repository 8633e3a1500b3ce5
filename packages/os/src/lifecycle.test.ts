import { afterEach, describe, expect, test } from "bun:test";
import { aborted } from "./lifecycle.ts";
import { evalCommand } from "./runtime-command.ts";

const children: { kill(signal: "SIGKILL"): void }[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

const imports = `
  import { runProgram, aborted, exitCodes } from ${JSON.stringify(`${import.meta.dir}/lifecycle.ts`)};
  import { BureauError } from ${JSON.stringify(`${import.meta.dir}/../../kit/src/errors.ts`)};`;

/** A program whose main is `body`; `ended` returns its exit code, log lines and output. */
function start(body: string, ...args: string[]) {
  const script = `${imports} await runProgram("tiny", async ({ log, signal, args }) => { ${body} });`;
  const child = Bun.spawn(evalCommand(script, ...args), { stdout: "pipe", stderr: "pipe" });
  children.push(child);
  const ended = async () => ({
    code: await child.exited,
    out: await child.stdout.text(),
    lines: (await child.stderr.text())
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>),
  });
  return { child, ended };
}

describe("a program", () => {
  test("exits with the code that main returns, 0 by default", async () => {
    const codes = ["", "return 0;", "return 3;", "return exitCodes.revoked;"].map(
      async (body) => (await start(body).ended()).code,
    );
    expect(await Promise.all(codes)).toEqual([0, 0, 3, 77]);
  });

  test("ends when main returns, although a timer still runs", async () => {
    expect((await start("setInterval(() => {}, 1000); return 4;").ended()).code).toBe(4);
  });

  test("exits 1 when it throws, and logs that once, with code and hint, or the stack when it is a bug", async () => {
    const known = await start(
      'throw new BureauError("conflict", "Cannot start", { hint: "stop it" });',
    ).ended();
    expect(known.code).toBe(1);
    expect(known.lines).toHaveLength(1);
    expect(known.lines[0]).toMatchObject({
      level: "error",
      program: "tiny",
      message: "Cannot start",
      code: "conflict",
      hint: "stop it",
    });
    const bug = await start('throw new TypeError("oops");').ended();
    expect([bug.code, bug.lines.length]).toEqual([1, 1]);
    expect(bug.lines[0]?.["stack"]).toContain("oops");
    const file = await start('require("node:fs").readFileSync("/none");').ended();
    expect(file.lines[0]).toMatchObject({ code: "not-found", hint: "" });
    expect(file.lines[0]).not.toHaveProperty("stack");
  });

  test("gets its arguments", async () => {
    // A program given by -e has no file: the first argument stands where its name would.
    const { out } = await start("console.log(JSON.stringify(args));", "tiny.ts", "a", "--b").ended();
    expect(JSON.parse(out)).toEqual(["a", "--b"]);
  });

  for (const signal of ["SIGTERM", "SIGINT"] as const)
    test(`is aborted by ${signal}, and still decides its exit code`, async () => {
      const { child } = start('console.log("ready"); await aborted(signal); console.log("bye"); return 5;');
      const [ready, rest] = child.stdout.tee();
      await ready.getReader().read();
      child.kill(signal);
      expect(await child.exited).toBe(5);
      expect(await new Response(rest).text()).toBe("ready\nbye\n");
    });

  test("exits 0 when it throws the signal's reason", async () => {
    const { child } = start('console.log("ready"); await aborted(signal); signal.throwIfAborted();');
    await child.stdout.getReader().read();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect(await child.stderr.text()).not.toContain('"level":"error"');
  });

  test("exits 1 when it fails while it stops", async () => {
    const { child } = start('console.log("ready"); await aborted(signal); throw new Error("cannot save");');
    await child.stdout.getReader().read();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(1);
    expect(await child.stderr.text()).toContain("cannot save");
  });
});

test("aborted resolves for a signal that has aborted, and for one that aborts later", async () => {
  await aborted(AbortSignal.abort());
  const stop = new AbortController();
  const waiting = aborted(stop.signal);
  stop.abort();
  await waiting;
});
