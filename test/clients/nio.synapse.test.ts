/** In the suite that may install from PyPI; the homeserver here is the embedded one. */
import { describe, test } from "bun:test";
import { copyFileSync, cpSync } from "node:fs";
import { join } from "node:path";
import { hostPython, nioPackages } from "@bureau/testkit/synapse";
import { useBureau } from "@bureau/testkit/use-bureau";
import { talkTo, workspaceOf } from "./client-journey.ts";

const running = useBureau();

describe("an unmodified matrix-nio in a sandbox, with a placeholder for a token", () => {
  test("syncs and talks as its principal", async () => {
    const workspace = workspaceOf(running(), "nio");
    cpSync(await nioPackages(), join(workspace, "lib"), { recursive: true });
    copyFileSync(join(import.meta.dir, "nio_client.py"), join(workspace, "client.py"));
    await talkTo(running(), "nio", `env PYTHONPATH=/workspace/lib ${hostPython} /workspace/client.py`);
  }, 120_000);
});
