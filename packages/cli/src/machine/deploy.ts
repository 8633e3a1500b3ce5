/** `bureau machine deploy`: makes another host, or this one, a machine of the fleet. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { shellLine } from "@bureau/kit/shell-words";
import { buildDir } from "@bureau/os/build-dir";
import { type FileLock, tryFileLock } from "@bureau/os/file-lock";
import { type FleetLocalpart, fleetOf, parseFleet, parseMachine, serverOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { defaultFleet, storedSession } from "../command/operator.ts";
import { adminTokenFlag, dryRunFlag, fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedCommand } from "../command/typed-command.ts";
import { untilSignal } from "../command/until-signal.ts";
import { type Deployed, deploy } from "../deploy/deploy.ts";
import { type DeployRequest, deployStateDir, refuseLoopback } from "../deploy/deploy-request.ts";
import { flagWords } from "../remote/flag-words.ts";
import { sshFlags } from "../remote/ssh-flags.ts";
import { targetArgument } from "../remote/target-argument.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...sshFlags,
  "machine-name": {
    type: "string",
    value: "NAME",
    summary: "Its name or full localpart (default: the host's own name)",
  },
  ...fleetFlag,
  ...adminTokenFlag,
  "server-name": {
    type: "string",
    value: "NAME",
    summary: "The Matrix server's name (default: the session's)",
  },
  operator: {
    type: "string",
    value: "USER",
    summary: "User there who may use Bureau without root (default: the ssh user, unless root)",
  },
  "install-nix": {
    type: "boolean",
    excludes: ["no-nix"],
    summary: "Install Nix there with its own package manager, if there is none",
  },
  "no-nix": {
    type: "boolean",
    summary: "Send the programs as an archive, even if the host has Nix",
  },
  ...dryRunFlag,
});
const positionals = definePositionals([
  { name: "target", summary: "ssh://root@host, ssh://user@host:port (with sudo), or local" },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Make a host a machine of the fleet, over ssh",
  details:
    "Checks the host, provisions the machine, sends the programs, runs doctor --fix there and waits for a heartbeat. After\nan interruption, run it again to continue. After success, running it again checks that everything is in place.",
  positionals,
  flags,
  examples: [
    "bureau machine deploy ssh://root@new-host",
    "bureau machine deploy ssh://admin@10.0.0.7:2222 --machine-name gpu-box --dry-run",
    "bureau machine deploy local",
  ],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const request = readRequest(invocation);
  using _lock = lockTarget(invocation);
  const deployed = await untilSignal((signal) => deploy(invocation, request, { clock: systemClock, signal }));
  present(invocation, deployed);
}

/** @throws BureauError `invalid-input` */
function readRequest(invocation: Asked): DeployRequest {
  const { args, flags } = invocation;
  const target = targetArgument(args.target, flags, { withoutHome: false });
  const session = storedSession(invocation);
  const { homeserver } = session;
  if (target.kind === "ssh") refuseLoopback(homeserver);
  const serverName = serverOf(session.userId);
  const typedServer = flags["server-name"];
  if (typedServer !== undefined && typedServer !== serverName)
    throw new BureauError(
      "invalid-input",
      `Your session is on the server "${serverName}", not on "${typedServer}"`,
      { hint: "omit --server-name, or log in there: bureau login" },
    );
  const machineName = flags["machine-name"];
  const [install, avoid] = [flags["install-nix"], flags["no-nix"]];
  return {
    target,
    typedTarget: args.target,
    sshOptions: flags["ssh-option"],
    homeserver,
    serverName,
    fleet: readFleet(invocation, machineName),
    machineName,
    operator: flags.operator,
    nix: install ? "install" : avoid ? "avoid" : "use",
    dryRun: flags["dry-run"],
    build: buildDir(),
    again: againCommand(invocation),
  };
}

function readFleet(invocation: Asked, machineName: string | undefined): FleetLocalpart {
  const typed = invocation.flags.fleet;
  const named = machineName?.includes("/") ? fleetOf(parseMachine(machineName)) : undefined;
  const fleet = typed === undefined ? (named ?? defaultFleet(invocation)) : parseFleet(typed);
  if (named !== undefined && named !== fleet)
    throw new BureauError("invalid-input", `The machine "${machineName}" is not in the fleet "${fleet}"`, {
      hint: `--machine-name ${fleet}/machine/NAME`,
    });
  return fleet;
}

function againCommand(invocation: Asked): string {
  return `${typedCommand()} ${shellLine(["machine", "deploy", invocation.args.target, ...flagWords(invocation.flags)])}`;
}

/** Two deploys to one host at once would undo each other's changes. */
function lockTarget(invocation: Asked): FileLock {
  const folder = deployStateDir(invocation.env);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const target = invocation.args.target;
  const lock = tryFileLock(join(folder, `${target.replace(/[^A-Za-z0-9.@_-]+/gu, "+")}.lock`));
  if (lock === undefined)
    throw new BureauError("conflict", `Another bureau machine deploy ${target} is running`, {
      hint: "wait for it, or stop it",
    });
  return lock;
}

function present(invocation: Asked, deployed: Deployed): void {
  const { terminal } = invocation;
  const { machine, target, steps, seconds, unchanged, plan, lastSeen } = deployed;
  if (invocation.flags.json) {
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
