/** In the suite that may install from PyPI; the homeserver here is the embedded one. */
import { describe, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { synapsePython } from "@bureau/testkit/synapse";
import { useBureau } from "@bureau/testkit/use-bureau";
import { talkTo, workspaceOf } from "./client-journey.ts";

/** The interpreter a sandbox sees: the host's own, under /usr. */
const hostPython = "/usr/bin/python3";

const running = useBureau();

describe("an unmodified matrix-nio in a sandbox, with a placeholder for a token", () => {
  test("syncs and talks as its principal", async () => {
    const workspace = workspaceOf(running(), "nio");
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
    await talkTo(running(), "nio", `env PYTHONPATH=/workspace/lib ${hostPython} /workspace/client.py`);
  }, 300_000);
});
