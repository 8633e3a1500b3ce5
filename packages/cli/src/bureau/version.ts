/** `bureau version`: which build this is. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { buildDir } from "@bureau/os/build-dir";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { jsonFlag } from "../command/shared-flags.ts";

const flags = defineFlags({ ...jsonFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "Print the version",
  flags,
  examples: ["bureau version"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const manifest = JSON.parse(readFileSync(join(buildDir(), "build.json"), "utf8")) as {
    version: string;
    runtime: string;
    programs: Record<string, { sha256: string; bytes: number }>;
  };
  if (invocation.flags.json) {
    invocation.terminal.json(manifest);
    return;
  }
  invocation.terminal.print(`bureau ${manifest.version} on Bun ${manifest.runtime}`);
  for (const [name, { sha256, bytes }] of Object.entries(manifest.programs))
    invocation.terminal.print(`  ${name.padEnd(18)} ${sha256.slice(0, 12)}  ${Math.ceil(bytes / 1024)} KiB`);
}
