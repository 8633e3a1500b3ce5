import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Ran } from "@bureau/os/run-to-end";
import { localShell } from "../remote/local.ts";
import { hasSession } from "./host-session.ts";
import type { Root } from "./privilege.ts";

test("a machine's first boot is complete when it has a session; an empty file is no session", async () => {
  const folder = mkdtempSync(join(tmpdir(), "it's a host-"));
  try {
    const host = localShell();
    const root: Root = { run: (argv, options) => host.run(argv, options) };
    const path = join(folder, "session.json");
    expect(await hasSession(root, "here", path)).toBe(false);
    writeFileSync(path, "");
    expect(await hasSession(root, "here", path)).toBe(false);
    writeFileSync(path, "{}");
    expect(await hasSession(root, "here", path)).toBe(true);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a host that does not answer is an error, not an incomplete first boot", async () => {
  const ran: Ran = { code: 1, stdout: "", stderr: "sudo: a password is required" };
  const root: Root = { run: async () => ran };
  await expect(hasSession(root, "there", "/x")).rejects.toThrow("a password is required");
});
