import { afterAll, beforeAll, describe, test } from "bun:test";
import { join } from "node:path";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { talkTo, workspaceOf } from "./client-journey.ts";

let bureau: TestBureau;
beforeAll(async () => {
  bureau = createBureau();
  await bureau.json("up");
}, 90_000);
afterAll(async () => {
  await bureau[Symbol.asyncDispose]();
}, 60_000);

describe("an unmodified matrix-js-sdk in a sandbox, with no token", () => {
  test("syncs and talks as its principal", async () => {
    const built = await Bun.build({
      entrypoints: [join(import.meta.dir, "js-sdk-client.ts")],
      target: "bun",
      outdir: workspaceOf(bureau, "js-sdk"),
      naming: { entry: "client.js", chunk: "[hash].js", asset: "[name].[ext]" },
      splitting: true,
    });
    if (!built.success) throw new AggregateError(built.logs, "cannot bundle the client");
    await talkTo(bureau, "js-sdk", "/run/bureau/programs/runtime/bun /workspace/client.js");
  }, 60_000);
});
