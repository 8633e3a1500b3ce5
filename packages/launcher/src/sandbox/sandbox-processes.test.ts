import { expect, test } from "bun:test";
import { systemClock } from "@bureau/kit/clock";
import { sandboxPaths, systemLayout } from "@bureau/os/layout";
import { childrenOf, identify, type ProcessId } from "@bureau/os/process-table";
import { parseFleet, parsePrincipalName } from "@bureau/schema/refs";
import { allProcesses, processesInside } from "./sandbox-processes.ts";

const paths = sandboxPaths(systemLayout, parseFleet("bureau/fleet/test"), parsePrincipalName("agent/x"));

async function commandOf(shell: number): Promise<ProcessId> {
  for (;;) {
    const [pid] = childrenOf(shell);
    const id = pid === undefined ? undefined : identify(pid);
    if (id !== undefined) return id;
    await systemClock.sleep(5);
  }
}

test("does not count the command that writes the exit code as a process of the sandbox", async () => {
  const ended = Bun.spawn(["sleep", "60"]);
  const bwrap = identify(ended.pid);
  ended.kill("SIGKILL");
  await ended.exited;
  const child = Bun.spawn(["/bin/sh", "-c", "sleep 60; :"]);
  const shell = identify(child.pid);
  if (bwrap === undefined || shell === undefined) throw new Error("a process has ended");
  const command = await commandOf(child.pid);
  const known = { shell, bwrap, init: bwrap, program: bwrap };
  expect(processesInside(paths, known)).toEqual([]);
  expect(allProcesses(paths, known)).toEqual([command, shell]);
  for (const { pid } of [shell, command]) process.kill(pid, "SIGKILL");
  await child.exited;
});
