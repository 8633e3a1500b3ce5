/** In the suite that may install from npm; the homeserver here is the embedded one. */
import { describe, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { jsSdkPackages } from "@bureau/testkit/js-sdk";
import { useBureau } from "@bureau/testkit/use-bureau";
import { talkTo, workspaceOf } from "./client-journey.ts";

const running = useBureau();

describe("an unmodified matrix-js-sdk in a sandbox, with no token", () => {
  test("syncs and talks as its principal", async () => {
    // Beside its packages, where the bundler finds them.
    const entry = join(await jsSdkPackages(), "client.mjs");
    copyFileSync(join(import.meta.dir, "js-sdk-client.mjs"), entry);
    const built = await Bun.build({
      entrypoints: [entry],
      target: "bun",
      outdir: workspaceOf(running(), "js-sdk"),
      naming: { entry: "client.js", chunk: "[hash].js", asset: "[name].[ext]" },
      splitting: true,
    });
    if (!built.success) throw new AggregateError(built.logs, "cannot bundle the client");
    await talkTo(
      running(),
      "js-sdk",
      `/run/bureau/programs/runtime/bun ${runtimeArguments.join(" ")} /workspace/client.js`,
    );
  }, 120_000);
});
