/** What `bureau machine deploy` was asked for: flags and session, read and checked before any host is touched. */

import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { shellLine } from "@bureau/kit/shell-words";
import { userFolder } from "@bureau/os/layout";
import { programsDir } from "@bureau/os/programs-dir";
import { socketOf } from "@bureau/schema/homeserver-address";
import {
  type FleetLocalpart,
  fleetOf,
  parseFleet,
  parseMachine,
  type ServerName,
  serverOf,
} from "@bureau/schema/refs";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { defaultFleet, storedSession } from "../command/operator.ts";
import { typedCommand } from "../command/typed-command.ts";
import { flagWords } from "../remote/flag-words.ts";
import type { Target } from "../remote/target.ts";
import { targetArgument } from "../remote/target-argument.ts";

export type DeployRequest = {
  readonly target: Target;
  /** As the new machine will reach it, without a slash at its end. */
  readonly homeserver: string;
  readonly serverName: ServerName;
  readonly fleet: FleetLocalpart;
  /** What `--machine-name` says; otherwise the host's own name. */
  readonly machineName: string | undefined;
  readonly operator: string | undefined;
  readonly nix: "use" | "install" | "avoid";
  readonly dryRun: boolean;
  /** The build that is brought: the one this command runs from. */
  readonly build: string;
  /** The command that does the same again. */
  readonly again: string;
};

/** @throws BureauError `invalid-input` */
export function readRequest(invocation: Invocation): DeployRequest {
  const target = targetArgument(invocation);
  const session = storedSession(invocation);
  const { homeserver } = session;
  if (target.kind === "ssh") refuseLoopback(homeserver);
  const serverName = serverOf(session.userId);
  const typedServer = stringFlag(invocation, "server-name");
  if (typedServer !== undefined && typedServer !== serverName)
    throw new BureauError(
      "invalid-input",
      `Your session is one of the server "${serverName}", not of "${typedServer}"`,
      { hint: "leave --server-name away, or log in there: bureau login" },
    );
  const machineName = stringFlag(invocation, "machine-name");
  const [install, avoid] = [booleanFlag(invocation, "install-nix"), booleanFlag(invocation, "no-nix")];
  return {
    target,
    homeserver,
    serverName,
    fleet: readFleet(invocation, machineName),
    machineName,
    operator: stringFlag(invocation, "operator"),
    nix: install ? "install" : avoid ? "avoid" : "use",
    dryRun: booleanFlag(invocation, "dry-run"),
    build: programsDir(),
    again: againCommand(invocation),
  };
}

/** A homeserver that only this machine reaches is of no use to another one. */
function refuseLoopback(homeserver: string): void {
  const hostname = socketOf(homeserver) === undefined ? new URL(homeserver).hostname : "localhost";
  if (!/^(?:localhost|.*\.localhost|127(?:\.\d+){3}|0\.0\.0\.0|\[::1?\])$/u.test(hostname)) return;
  throw new BureauError(
    "invalid-input",
    `The homeserver ${homeserver} answers on this machine only; another machine cannot join through it`,
    {
      hint: "pass an address that machines can reach with --homeserver URL; bureau up --listen HOST:PORT opens a port on this machine",
    },
  );
}

function readFleet(invocation: Invocation, machineName: string | undefined): FleetLocalpart {
  const typed = stringFlag(invocation, "fleet");
  const named = machineName?.includes("/") ? fleetOf(parseMachine(machineName)) : undefined;
  const fleet = typed === undefined ? (named ?? defaultFleet(invocation)) : parseFleet(typed);
  if (named !== undefined && named !== fleet)
    throw new BureauError("invalid-input", `The machine "${machineName}" is not in the fleet "${fleet}"`, {
      hint: `--machine-name ${fleet}/machine/NAME`,
    });
  return fleet;
}

function againCommand(invocation: Invocation): string {
  return `${typedCommand()} ${shellLine(["machine", "deploy", ...invocation.args, ...flagWords(invocation.flags)])}`;
}

/** Where deploys keep what they must not lose: one-time passwords of machines that have not joined yet. */
export function deployStateDir(env: Invocation["env"]): string {
  return join(userFolder("XDG_STATE_HOME", join(".local", "state"), env), "bureau", "deploy");
}
