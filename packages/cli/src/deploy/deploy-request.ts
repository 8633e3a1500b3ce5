/** What `bureau machine deploy` was asked for, and checks of it that need no host. */
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { userFolder } from "@bureau/os/layout";
import { socketOf } from "@bureau/schema/homeserver-address";
import type { FleetLocalpart, ServerName } from "@bureau/schema/refs";
import type { Env } from "../command/command.ts";
import type { Target } from "../remote/target.ts";

export type DeployRequest = {
  readonly target: Target;
  /** As the person typed it. */
  readonly typedTarget: string;
  /** ssh's, `KEY=VALUE`. */
  readonly sshOptions: readonly string[];
  /** As the new machine reaches it, without a slash at its end. */
  readonly homeserver: string;
  readonly serverName: ServerName;
  readonly fleet: FleetLocalpart;
  /** From `--machine-name`; undefined for the host name. */
  readonly machineName: string | undefined;
  readonly operator: string | undefined;
  readonly nix: "use" | "install" | "avoid";
  readonly dryRun: boolean;
  /** The build to send: the one that this command runs from. */
  readonly build: string;
  /** The command to run the same deploy again. */
  readonly again: string;
};

/** @throws BureauError when only this machine reaches the homeserver */
export function refuseLoopback(homeserver: string): void {
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

/** Where deploys store the one-time passwords of machines that have not joined yet. */
export function deployStateDir(env: Env): string {
  return join(userFolder("XDG_STATE_HOME", join(".local", "state"), env), "bureau", "deploy");
}
