/** `bureau machine deploy`: another host, or this one, becomes a machine of the fleet. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { type FileLock, tryFileLock } from "@bureau/os/file-lock";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { typedCommand } from "../command/typed-command.ts";
import { type Deployed, deploy } from "../deploy/deploy.ts";
import { deployStateDir, readRequest } from "../deploy/deploy-request.ts";

export async function run(invocation: Invocation): Promise<void> {
  const request = readRequest(invocation);
  using _lock = lockTarget(invocation);
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  // Once: whoever insists with a second Ctrl-C ends it at once.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, onSignal);
  try {
    const deployed = await deploy(invocation, request, { clock: systemClock, signal: stop.signal });
    present(invocation, deployed);
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, onSignal);
  }
}

/** Two deploys to one host would undo each other's work. */
function lockTarget(invocation: Invocation): FileLock {
  const folder = deployStateDir(invocation.env);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const target = invocation.args[0] ?? "";
  const lock = tryFileLock(join(folder, `${target.replace(/[^A-Za-z0-9.@_-]+/gu, "+")}.lock`));
  if (lock === undefined)
    throw new BureauError("conflict", `Another bureau machine deploy ${target} is at work`, {
      hint: "wait for it, or stop it",
    });
  return lock;
}

function present(invocation: Invocation, deployed: Deployed): void {
  const { terminal } = invocation;
  const { machine, target, steps, seconds, unchanged, plan, lastSeen } = deployed;
  if (booleanFlag(invocation, "json")) {
    terminal.json({
      machine,
      target,
      steps,
      seconds,
      unchanged,
      ...(lastSeen === undefined ? {} : { last_seen: lastSeen }),
      ...(plan === undefined ? {} : { dry_run: true, plan }),
    });
    return;
  }
  if (plan !== undefined) {
    terminal.print(`${target} can become ${machine}. A deploy would:`);
    for (const line of plan) terminal.print(`  ${line}`);
    return;
  }
  const { bold } = terminal.style;
  const command = typedCommand();
  terminal.say(
    `\n${bold(`${machine} is a machine of the fleet.`)} ${unchanged ? "Everything was in place" : "Done"} (${seconds} s: ${steps
      .map((step) => `${step.name} ${step.seconds}`)
      .join(", ")})\n\nType next:`,
  );
  terminal.say(`  ${command} machine show ${machine}`);
  terminal.say(`  ${command} agent create demo --machine ${machine} --command 'echo hello; sleep 1000'`);
}
