import { expect, test } from "bun:test";
import { join } from "node:path";
import { evalCommand } from "@bureau/os/runtime-command";

const program = `import { hasTerminal } from ${JSON.stringify(join(import.meta.dir, "has-terminal.ts"))};
console.log((hasTerminal() ? "asks" : "cannot ask") + ", " + (process.stdin.isTTY === true));`;

test("sudo can ask on the terminal when standard input is a pipe, and cannot ask without a terminal", () => {
  const ask = (...around: string[]): string =>
    Bun.spawnSync([...around], { stdin: Buffer.from("{}"), env: { ...process.env, PROGRAM: program } })
      .stdout.toString()
      .trim();
  const run = `echo {} | ${evalCommand('"$PROGRAM"').join(" ")}`;
  expect(ask("script", "-qec", run, "/dev/null")).toEndWith("asks, false");
  expect(ask("setsid", "--wait", "sh", "-c", run)).toBe("cannot ask, false");
});
