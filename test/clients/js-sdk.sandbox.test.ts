import { describe, test } from "bun:test";
import { join } from "node:path";
import { runtimeArguments } from "@bureau/kit/runtime-command";
import { useBureau } from "@bureau/testkit/use-bureau";
import { talkTo, workspaceOf } from "./client-journey.ts";

const running = useBureau();

describe("an unmodified matrix-js-sdk in a sandbox, with no token", () => {
  test("syncs and talks as its principal", async () => {
    const built = await Bun.build({
      entrypoints: [join(import.meta.dir, "js-sdk-client.ts")],
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
  }, 60_000);
});
