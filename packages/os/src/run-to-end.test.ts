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

test("returns the output and the exit code", async () => {
  const lines: string[] = [];
  const ran = await sh("cat; echo one >&2; echo two >&2; exit 3", {
    stdin: new TextEncoder().encode("given"),
    onLine: (line) => lines.push(line),
  });
  expect(ran).toEqual({ code: 3, stdout: "given", stderr: "one\ntwo\n" });
  expect(lines).toEqual(["one", "two"]);
});

test("a program sees only the given environment, in the given folder", async () => {
  const { stdout } = await sh("pwd; env", { env: { ONLY: "this" } });
  expect(stdout).toContain("ONLY=this");
  expect(stdout.startsWith("/\n")).toBe(true);
  expect(stdout).not.toContain("HOME=");
});

test("a program that another process kills is not reported as timed out", async () => {
  expect((await sh("kill -KILL $$")).code).toBe(137);
});

test("stops a program after its timeout, also if it ignores SIGTERM, and does not wait for its children", async () => {
  const began = performance.now();
  const error = await failure(
    sh("trap '' TERM; sleep 600 & while :; do sleep 600; done", { timeoutMs: 300 }),
  );
  expect([error.code, error.message]).toEqual(["timeout", "the test did not end within 1 s"]);
  expect(performance.now() - began).toBeLessThan(30_000);
});

test("stops a program when the caller aborts, and when it prints without end", async () => {
  const stop = new AbortController();
  const running = failure(sh("sleep 600", { signal: stop.signal }));
  stop.abort();
  expect((await running).message).toContain("interrupted");
  expect((await failure(sh("yes", { stdoutBytesMax: 1_000 }))).code).toBe("too-large");
});

test("reports a missing program", async () => {
  const options = { what: "x", timeoutMs: 1_000 };
  expect((await failure(runToEnd(["/nonexistent"], options))).code).toBe("unsupported");
});
