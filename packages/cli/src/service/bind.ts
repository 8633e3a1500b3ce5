/** `bureau service bind`: chooses the service that answers a role. */
import { roomOf } from "@bureau/control/rooms/places";
import { bindService } from "@bureau/control/services/bindings";
import { BureauError } from "@bureau/kit/errors";
import { principalNameOf, principalType, rooms, serverOf, userIdOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { machineOf, openSession, principalOf, roomArgument } from "../command/operator.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  room: {
    type: "string",
    value: "ROOM",
    summary: "For principals whose workspace has this room (default: all of the machine)",
  },
  remove: { type: "boolean", summary: "Remove the binding of the role" },
});
const positionals = definePositionals([
  { name: "role", summary: "The role that templates name in required_services" },
  { name: "service", summary: "The service that answers it: service/NAME", optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Choose the service that answers a role, for the sandboxes of a machine",
  positionals,
  flags,
  examples: ["bureau service bind ticket service/tickets", "bureau service bind ticket --remove"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal, args } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const provider = providerOf(invocation, machine);
  const room =
    invocation.flags.room === undefined
      ? await roomOf(session, rooms.config(machine))
      : await roomArgument(session, invocation.flags.room);
  const user = provider === undefined ? undefined : userIdOf(provider, serverOf(session.userId));
  await bindService(session, room, args.role, user);
  if (invocation.flags.json) terminal.json({ role: args.role, principal: user ?? null, room });
  else if (provider === undefined) terminal.say(`Nothing answers "${args.role}" any more`);
  else terminal.say(`${principalNameOf(provider)} answers "${args.role}"`);
}

/** Undefined to remove the binding. */
function providerOf({ args, flags }: Asked, machine: ReturnType<typeof machineOf>) {
  if (flags.remove) {
    if (args.service === undefined) return undefined;
    throw new BureauError("invalid-input", `--remove and "${args.service}" exclude each other`, {
      hint: `bureau service bind ${args.role} --remove`,
    });
  }
  if (args.service === undefined)
    throw new BureauError("invalid-input", "No service given", {
      hint: `bureau service bind ${args.role} service/NAME`,
    });
  const provider = principalOf(machine, args.service);
  if (principalType(principalNameOf(provider)) === "service") return provider;
  throw new BureauError("invalid-input", `"${args.service}" is no service`, {
    hint: "its name must begin with service/",
  });
}
