import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { takeTurn } from "./turn.ts";

test("fails with the lock's name while the lock stays held, and takes a released lock", async () => {
  const dir = mkdtempSync(join(tmpdir(), "bt-"));
  const file = join(dir, "lock");
  {
    using _turn = await takeTurn(file);
    await expect(takeTurn(file, 1)).rejects.toThrow("Another command has been editing");
  }
  using _next = await takeTurn(file, 1);
  rmSync(dir, { recursive: true });
});
