import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { egressTo, viaSocket } from "./egress.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "beg-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("a socket", () => {
  test("reaches the new process from the next request after a replacement, even while the old one runs", async () => {
    const path = join(dir, "s.sock");
    const serve = (name: string) => Bun.serve({ unix: path, fetch: () => new Response(name) });
    const ask = async () => (await fetch("http://localhost/", viaSocket(path))).text();
    const before = serve("old");
    expect(await ask()).toBe("old");
    renameSync(path, join(dir, "moved.sock"));
    const after = serve("new");
    expect(await ask()).toBe("new");
    rmSync(path, { force: true });
    await expect(ask()).rejects.toThrow();
    await before.stop(true);
    await after.stop(true);
  });

  test("is not trusted in a folder that others may write to, or behind a link", () => {
    const folder = join(dir, "run");
    mkdirSync(folder, { mode: 0o700 });
    expect(egressTo(`unix:${folder}/hs.sock`).options.unix).toBe(`${folder}/hs.sock`);
    symlinkSync(folder, join(dir, "link"));
    expect(() => egressTo(`unix:${dir}/link/hs.sock`)).toThrow("Cannot trust the socket");
    chmodSync(folder, 0o770);
    expect(() => egressTo(`unix:${folder}/hs.sock`)).toThrow("Cannot trust the socket");
    expect(() => egressTo(`unix:${dir}/none/hs.sock`)).toThrow("There is no socket");
  });
});

test("paths are appended to a URL", () => {
  expect(egressTo("http://h:1/")).toEqual({ base: "http://h:1", options: {} });
});
