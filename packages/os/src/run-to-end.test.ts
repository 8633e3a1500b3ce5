import { expect, test } from "bun:test";
import { isBureauError } from "@bureau/kit/errors";
import { runToEnd } from "./run-to-end.ts";

const sh = (script: string, options: Partial<Parameters<typeof runToEnd>[1]> = {}) =>
  runToEnd(["/bin/sh", "-c", script], { what: "the test", timeoutMs: 30_000, ...options });
const failure = async (running: Promise<unknown>) => {
  const error = await running.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isBureauError(error)) throw new Error(`no failure: ${error}`);
  return error;
};

test("what it prints and how it ends is told", async () => {
  const lines: string[] = [];
  const ran = await sh("cat; echo one >&2; echo two >&2; exit 3", {
    stdin: new TextEncoder().encode("given"),
    onLine: (line) => lines.push(line),
  });
  expect(ran).toEqual({ code: 3, stdout: "given", stderr: "one\ntwo\n" });
  expect(lines).toEqual(["one", "two"]);
});

test("only the environment that is given is seen, in the folder that is given", async () => {
  const { stdout } = await sh("pwd; env", { env: { ONLY: "this" } });
  expect(stdout).toContain("ONLY=this");
  expect(stdout.startsWith("/\n")).toBe(true);
  expect(stdout).not.toContain("HOME=");
});

test("one that another process kills has not taken too long", async () => {
  expect((await sh("kill -KILL $$")).code).toBe(137);
});

test("one that takes too long is ended, also when it ignores that, and its children do not keep us", async () => {
  const began = performance.now();
  const error = await failure(
    sh("trap '' TERM; sleep 600 & while :; do sleep 600; done", { timeoutMs: 300 }),
  );
  expect([error.code, error.message]).toEqual(["timeout", "the test did not end within 1 s"]);
  expect(performance.now() - began).toBeLessThan(30_000);
});

test("it ends when its caller gives up, and when it prints without end", async () => {
  const stop = new AbortController();
  const running = failure(sh("sleep 600", { signal: stop.signal }));
  stop.abort();
  expect((await running).message).toContain("interrupted");
  expect((await failure(sh("yes", { stdoutBytesMax: 1_000 }))).code).toBe("too-large");
});

test("a program that is not there is said to be", async () => {
  const options = { what: "x", timeoutMs: 1_000 };
  expect((await failure(runToEnd(["/nonexistent"], options))).code).toBe("unsupported");
});
