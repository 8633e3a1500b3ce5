/** `bureau version`: which build this is. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { programsDir } from "@bureau/os/programs-dir";
import { booleanFlag, type Invocation } from "../command/command.ts";

export async function run(invocation: Invocation): Promise<void> {
  const manifest = JSON.parse(readFileSync(join(programsDir(), "build.json"), "utf8")) as {
    version: string;
    runtime: string;
    programs: Record<string, { sha256: string; bytes: number }>;
  };
  if (booleanFlag(invocation, "json")) {
    invocation.terminal.json(manifest);
    return;
  }
  invocation.terminal.print(`bureau ${manifest.version} on Bun ${manifest.runtime}`);
  for (const [name, { sha256, bytes }] of Object.entries(manifest.programs))
    invocation.terminal.print(`  ${name.padEnd(18)} ${sha256.slice(0, 12)}  ${Math.ceil(bytes / 1024)} KiB`);
}
