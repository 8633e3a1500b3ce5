/** `bureau machine provision`: an account, rooms and a bootstrap file for a machine that has not joined yet. */
import { resolve } from "node:path";
import { bootstrapText } from "@bureau/control/machines/bootstrap";
import { type Provisioned, provisionMachine } from "@bureau/control/machines/provision";
import { bootstrapFileAt } from "@bureau/instance/bootstrap-file";
import { withAge } from "@bureau/kit/age";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { runStep } from "@bureau/kit/run-step";
import { socketOf } from "@bureau/schema/homeserver-address";
import { type MachineLocalpart, nameWithoutType, principalNameOf } from "@bureau/schema/refs";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import {
  administratorCredentials,
  isHere,
  machineOf,
  openSession,
  parseAddress,
  serverAdmin,
} from "../command/operator.ts";
import {
  adminTokenFlag,
  fleetFlag,
  jsonFlag,
  machinePositional,
  sessionFlags,
} from "../command/shared-flags.ts";
import { typedCommand } from "../command/typed-command.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  ...adminTokenFlag,
  output: {
    type: "string",
    value: "PATH",
    summary: 'Where the bootstrap file goes (default: bootstrap-NAME.json here); "-" for standard output',
  },
  expires: {
    type: "string",
    value: "DURATION",
    summary: "First boot refuses the file after this long, such as 24h",
  },
  "machine-homeserver": {
    type: "string",
    value: "URL",
    summary: "The homeserver's address for the machine (default: the session's)",
  },
});
const positionals = definePositionals([machinePositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Prepare a new machine: account, rooms, and the bootstrap file to join with",
  details:
    "Creates an account with a one-time password, the machine's rooms and invitations, and writes a bootstrap file (0600).\nDoes not contact the machine. After an interruption, run it again to continue; for a machine that has left or never\njoined, it makes a new password. The password is valid until first boot replaces it, the machine is provisioned again,\nor it is revoked. --expires only lets first boot refuse the file.",
  positionals,
  flags,
  examples: [
    "bureau machine provision gpu-box --expires 24h",
    "bureau machine provision bureau/fleet/prod/machine/gpu-box --output - | ssh gpu-box 'umask 077; cat > bootstrap.json'",
  ],
  run,
});

const STDOUT = "-";

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const machine = machineOf(invocation, invocation.args.machine);
  const name = nameWithoutType(principalNameOf(machine)).replaceAll("/", "-");
  const output = invocation.flags.output ?? `bootstrap-${name}.json`;
  const file = output === STDOUT ? undefined : resolve(output);
  const expires = invocation.flags.expires;
  const session = openSession(invocation);
  const machineHomeserver = machineAddress(invocation, session.homeserver, machine);
  const { registrationToken } = administratorCredentials(invocation);
  const expiresInMs = expires === undefined ? undefined : parseDuration(expires, "--expires");
  if (expiresInMs === 0) throw new BureauError("invalid-input", "--expires must be more than 0");
  const made = await runStep(
    terminal,
    `Provisioning ${machine}`,
    () =>
      provisionMachine({
        session,
        registrationToken,
        machine,
        homeserver: session.homeserver,
        admin: serverAdmin(invocation),
        ...(file === undefined ? {} : { store: bootstrapFileAt(file, machine) }),
        ...(expiresInMs === undefined ? {} : { expiresInMs }),
        machineHomeserver,
      }),
    ({ account }) => `${machine} ${done[account]}`,
  );
  if (file === undefined) terminal.print(bootstrapText(made.bootstrap).trimEnd());
  else present(invocation, machine, made, file);
}

/** The homeserver's address for the machine. @throws UsageError when ours is a socket of this host */
function machineAddress(invocation: Asked, ours: string, machine: MachineLocalpart): string {
  const typed = parseAddress(invocation.flags["machine-homeserver"], "--machine-homeserver");
  if (typed !== undefined) return typed;
  if (socketOf(ours) === undefined || isHere(invocation, machine)) return ours;
  throw new UsageError(
    `Cannot tell how "${machine}" reaches the homeserver, which answers only on a socket of this host`,
    "bureau up --listen HOST:PORT, then --machine-homeserver http://HOST:PORT",
  );
}

const done: Readonly<Record<Provisioned["account"], string>> = {
  created: "has an account, rooms and invitations",
  resumed: "was provisioned already; its bootstrap file is still valid",
  reissued: "has a new one-time password; earlier ones are invalid",
};

function present(invocation: Asked, machine: string, made: Provisioned, file: string): void {
  const { terminal } = invocation;
  const { bootstrap } = made;
  if (invocation.flags.json) {
    terminal.json({
      machine,
      user_id: made.userId,
      account: made.account,
      bootstrap_file: file,
      expires_at: bootstrap.expires_at ?? null,
      config_room: made.configRoom,
      ops_room: made.opsRoom,
    });
    return;
  }
  terminal.print(file);
  const until =
    bootstrap.expires_at === undefined
      ? ""
      : ` It may be used until ${withAge(bootstrap.expires_at, systemClock.now())}.`;
  terminal.say(`
This file lets its holder become the machine, once.${until} Copy it over a trusted channel; then, on the machine,
in a checkout of Bureau and as yourself (it asks for sudo):

  ./bureau machine doctor --fix --bootstrap-file ${file.slice(file.lastIndexOf("/") + 1)}

Or let ssh do all of it: ${typedCommand()} machine deploy ssh://USER@HOST --machine-name ${machine}`);
}
