import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import {
  readIfPresent,
  removeDurably,
  removeTemporaries,
  removeTemporariesIn,
  writeDurably,
} from "./durable-file.ts";
import { evalCommand } from "./runtime-command.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync("/tmp/bk-");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("a read error names the file, even when the system call does not", () => {
  expect(() => readIfPresent(dir)).toThrow(expect.objectContaining({ code: "EISDIR", path: dir }));
});

describe("writeDurably", () => {
  test("makes the file with exactly its mode under any umask", () => {
    const before = process.umask(0o077);
    try {
      for (const mode of [0o600, 0o644, 0o660]) {
        writeDurably(join(dir, "f"), "x", mode);
        expect(statSync(join(dir, "f")).mode & 0o7777).toBe(mode);
      }
    } finally {
      process.umask(before);
    }
  });

  test("replaces content and mode at once, and leaves no other file behind", () => {
    const path = join(dir, "f");
    writeDurably(path, "old and longer", 0o644);
    const inode = statSync(path).ino;
    writeDurably(path, new Uint8Array([110, 101, 119]), 0o600);
    expect(readFileSync(path, "utf8")).toBe("new");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(path).ino).not.toBe(inode);
    expect(readdirSync(dir)).toEqual(["f"]);
    writeDurably(path, "", 0o600);
    expect(readIfPresent(path)).toBe("");
  });

  test("a reader who opened the old file keeps reading the old content", () => {
    const path = join(dir, "f");
    const large = "a".repeat(1_000_000);
    writeDurably(path, large, 0o600);
    const reader = Bun.file(path);
    writeDurably(path, "b".repeat(1_000_000), 0o600);
    expect(["a", "b"]).toContain(readFileSync(path, "utf8").charAt(0));
    expect(new Set(readFileSync(path, "utf8")).size).toBe(1);
    expect(reader.size).toBe(1_000_000);
  });

  test("never shows partial content to another process that reads meanwhile", async () => {
    const path = join(dir, "f");
    writeDurably(path, "a".repeat(200_000), 0o600);
    const script = `
      const { readFileSync } = require("node:fs");
      console.log("ready");
      for (let i = 0; i < 3000; i++) {
        const text = readFileSync(${JSON.stringify(path)}, "utf8");
        if (text.length !== 200000 || text[0] !== text[199999]) { console.log("torn"); process.exit(1); }
      }`;
    const reader = Bun.spawn(evalCommand(script), { stdout: "pipe", stderr: "inherit" });
    let writes = 0;
    while (reader.exitCode === null) {
      writeDurably(path, (writes++ % 2 === 0 ? "b" : "a").repeat(200_000), 0o600);
      await Bun.sleep(0);
    }
    expect(await reader.exited).toBe(0);
    expect(writes).toBeGreaterThan(0);
  });

  test("leaves the old content and no temporary file when it fails", () => {
    const target = join(dir, "folder");
    mkdirSync(target);
    writeFileSync(join(target, "inside"), "kept");
    expect(() => writeDurably(target, "x", 0o600)).toThrow();
    expect(readdirSync(dir)).toEqual(["folder"]);
    expect(readFileSync(join(target, "inside"), "utf8")).toBe("kept");
    expect(() => writeDurably(join(dir, "missing", "f"), "x", 0o600)).toThrow();
    expect(readdirSync(dir)).toEqual(["folder"]);
  });
});

describe("unfinished copies of a killed writer", () => {
  const names = [
    "f",
    "f.0123456789ab.tmp",
    "f.0123456789ab.tmp.ba9876543210.tmp",
    "f.tmp",
    "g.0123456789ab.tmp",
  ];
  beforeEach(() => {
    for (const name of names) writeFileSync(join(dir, name), "");
  });

  test("are removed for one file, and no file with another name", () => {
    removeTemporaries(join(dir, "f"));
    expect(readdirSync(dir).sort()).toEqual(["f", "f.tmp", "g.0123456789ab.tmp"]);
    removeTemporaries(join(dir, "missing/f"));
  });

  test("are removed for all files of a folder that the caller accepts", () => {
    removeTemporariesIn(dir, (name) => name === "g");
    expect(readdirSync(dir)).not.toContain("g.0123456789ab.tmp");
    removeTemporariesIn(dir, () => true);
    expect(readdirSync(dir).sort()).toEqual(["f", "f.tmp"]);
  });
});

describe("removing and reading", () => {
  test("removing a missing file, or one in a missing folder, is not an error", () => {
    const path = join(dir, "f");
    writeDurably(path, "x", 0o600);
    removeDurably(path);
    removeDurably(path);
    removeDurably(join(dir, "missing", "f"));
    expect(readIfPresent(path)).toBeUndefined();
    expect(readIfPresent(join(dir, "missing", "f"))).toBeUndefined();
  });

  test("a file that cannot be read is an error, not an absent one", () => {
    expect(() => readIfPresent(dir)).toThrow();
    const path = join(dir, "f");
    writeFileSync(path, "x");
    expect(() => readIfPresent(join(path, "below"))).toThrow();
    chmodSync(path, 0o600);
    expect(readIfPresent(path)).toBe("x");
  });
});
