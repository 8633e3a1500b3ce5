/** In the suite that may install from PyPI; the homeserver here is the embedded one. */
import { afterAll, beforeAll, describe, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { synapsePython } from "@bureau/testkit/synapse";
import { talkTo, workspaceOf } from "./client-journey.ts";

/** The interpreter a sandbox sees: the host's own, under /usr. */
const hostPython = "/usr/bin/python3";

let bureau: TestBureau;
beforeAll(async () => {
  bureau = createBureau();
  await bureau.json("up");
}, 90_000);
afterAll(async () => {
  await bureau[Symbol.asyncDispose]();
}, 60_000);

describe("an unmodified matrix-nio in a sandbox, with a placeholder for a token", () => {
  test("syncs and talks as its principal", async () => {
    const workspace = workspaceOf(bureau, "nio");
    const pip = [
      await synapsePython(),
      "-m",
      "pip",
      "--python",
      hostPython,
      "install",
      "--quiet",
      "--target",
      join(workspace, "lib"),
    ];
    const installed = Bun.spawnSync([...pip, "matrix-nio"], { stdout: "inherit", stderr: "pipe" });
    if (installed.exitCode !== 0)
      throw new Error(`cannot install matrix-nio: ${installed.stderr.toString()}`);
    copyFileSync(join(import.meta.dir, "nio_client.py"), join(workspace, "client.py"));
    await talkTo(bureau, "nio", `env PYTHONPATH=/workspace/lib ${hostPython} /workspace/client.py`);
  }, 300_000);
});
