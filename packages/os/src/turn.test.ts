import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { takeTurn } from "./turn.ts";

test("a lock that stays held is an error that names it, and a released lock is free", async () => {
  const dir = mkdtempSync(join(tmpdir(), "bt-"));
  const file = join(dir, "lock");
  {
    using _turn = await takeTurn(file);
    await expect(takeTurn(file, 1)).rejects.toThrow("Another command has been editing");
  }
  using _next = await takeTurn(file, 1);
  rmSync(dir, { recursive: true });
});
