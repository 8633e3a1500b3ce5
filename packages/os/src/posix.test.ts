import { afterEach, describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { hasHungUp, holdProcess, tryLock } from "./posix.ts";
import { evalCommand } from "./runtime-command.ts";

const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});
function tempDir(): string {
  const dir = mkdtempSync("/tmp/bk-");
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const module = JSON.stringify(`${import.meta.dir}/posix.ts`);

/** Root's capabilities pass every check, so as root the tests of protection run as another user. */
const unprivileged =
  process.getuid?.() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : [];

describe("an undumpable process", () => {
  /** Starts a process with a word in memory and environment. Reports what another process of its user can open. */
  async function openedByOthers(protect: boolean): Promise<Record<string, string>> {
    const dir = tempDir();
    const bundle = await Bun.build({ entrypoints: [`${import.meta.dir}/posix.ts`], target: "bun" });
    const code = await bundle.outputs[0]?.text();
    if (code === undefined) throw new Error("posix.ts does not bundle");
    // That user may not read the checkout or the runtime in it: both are copied to a folder that it may read.
    const bun = join(dir, "bun");
    await Bun.write(bun, Bun.file(process.execPath));
    await Bun.write(join(dir, "posix.js"), code);
    await Bun.$`chmod 755 ${dir} ${bun}`.quiet();
    const victim = Bun.spawn(
      [
        ...unprivileged,
        bun,
        "-e",
        `const { makeUndumpable } = await import(${JSON.stringify(join(dir, "posix.js"))});
         if (${protect}) makeUndumpable();
         console.log("ready"); setInterval(() => {}, 1000);`,
      ],
      { env: { HELD_WORD: "hunter2", HOME: dir, PATH: process.env["PATH"] ?? "" }, cwd: dir, stdout: "pipe" },
    );
    cleanups.push(() => victim.kill("SIGKILL"));
    await victim.stdout.getReader().read();
    const one = (file: string) =>
      `if (exec 3< /proc/${victim.pid}/${file}) 2>/dev/null; then echo ${file} open; else echo ${file} shut; fi`;
    const other = Bun.spawn([...unprivileged, "/bin/sh", "-c", ["mem", "environ"].map(one).join("; ")], {
      stdout: "pipe",
    });
    const text = await other.stdout.text();
    victim.kill("SIGKILL");
    await victim.exited;
    return Object.fromEntries(
      text
        .trim()
        .split("\n")
        .map((line) => line.split(" ")),
    );
  }

  test("hides its memory and environment from other processes of its user", async () => {
    expect(await openedByOthers(true)).toEqual({ mem: "shut", environ: "shut" });
  });

  test("control: without the protection its environment is readable", async () => {
    expect((await openedByOthers(false))["environ"]).toBe("open");
  });
});

describe("locks", () => {
  test("hold against other processes until their file is closed", async () => {
    const path = join(tempDir(), "lock");
    const script = `
      const { openSync } = require("node:fs");
      const { tryLock } = await import(${module});
      const fd = openSync(${JSON.stringify(path)}, "a");
      console.log(tryLock(fd) ? "got it" : "refused");`;
    const other = (): Promise<string> =>
      Bun.spawn(evalCommand(script), { stdout: "pipe", stderr: "inherit" }).stdout.text();
    const fd = openSync(path, "a");
    expect(tryLock(fd)).toBe(true);
    expect(tryLock(fd)).toBe(true);
    const again = openSync(path, "a");
    expect(tryLock(again)).toBe(false);
    expect((await other()).trim()).toBe("refused");
    closeSync(fd);
    expect((await other()).trim()).toBe("got it");
    expect(tryLock(again)).toBe(true);
    closeSync(again);
  });

  test("are released when their process dies", async () => {
    const path = join(tempDir(), "lock");
    const script = `
      const { openSync } = require("node:fs");
      const { tryLock } = await import(${module});
      console.log(tryLock(openSync(${JSON.stringify(path)}, "a"))); setInterval(() => {}, 1000);`;
    const holder = Bun.spawn(evalCommand(script), { stdout: "pipe", stderr: "inherit" });
    cleanups.push(() => holder.kill("SIGKILL"));
    expect(new TextDecoder().decode((await holder.stdout.getReader().read()).value).trim()).toBe("true");
    const fd = openSync(path, "a");
    expect(tryLock(fd)).toBe(false);
    holder.kill("SIGKILL");
    await holder.exited;
    expect(tryLock(fd)).toBe(true);
    closeSync(fd);
  });
});

test("distinguishes a peer that closed from one that only stopped sending", async () => {
  const path = join(tempDir(), "s");
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, accepted.resolve);
  cleanups.push(() => server.close());
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
  const client = connect({ path, allowHalfOpen: true });
  const socket = await accepted.promise;
  cleanups.push(() => socket.destroy());
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const ended = new Promise((resolve) => socket.resume().once("end", resolve));
  expect(hasHungUp(fd)).toBe(false);
  client.end();
  await ended;
  expect(hasHungUp(fd)).toBe(false);
  client.destroy();
  const deadline = performance.now() + 5_000;
  while (!hasHungUp(fd) && performance.now() < deadline) await Bun.sleep(2);
  expect(hasHungUp(fd)).toBe(true);
  expect(hasHungUp(9_999)).toBe(true);
});

test("kills a process by its handle, once; a missing process has no handle", async () => {
  const child = Bun.spawn(["sleep", "60"]);
  using held = holdProcess(child.pid);
  expect(held?.kill()).toBe(true);
  await child.exited;
  expect(child.signalCode).toBe("SIGKILL");
  expect(held?.kill()).toBe(false);
  expect(holdProcess(child.pid)).toBeUndefined();
});

test.skipIf(Bun.which("keyctl") === null)(
  "a child process has no key of the user who started its parent",
  () => {
    const search = "keyctl search @s user bureau-test";
    const join = `(await import(${module})).joinSessionKeyring();`;
    const run = `console.log(Bun.spawnSync(["sh", "-c", ${JSON.stringify(search)}]).exitCode === 0 ? "found" : "none")`;
    const script = `keyctl add user bureau-test x @s >/dev/null && "$@"`;
    const inside = (code: string): string =>
      Bun.spawnSync(["keyctl", "session", "-", "sh", "-c", script, "sh", ...evalCommand(code)])
        .stdout.toString()
        .trim();
    expect(inside(run)).toBe("found");
    expect(inside(`${join} ${run}`)).toBe("none");
  },
);
