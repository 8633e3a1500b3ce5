/** `bureau whoami`: the user of the session that commands use, as the homeserver reports it. */
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { openSession } from "../command/operator.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "Show whose session the commands use",
  flags,
  examples: ["bureau whoami"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const session = openSession(invocation);
  const { userId, deviceId } = await session.whoami();
  if (invocation.flags.json)
    invocation.terminal.json({ user_id: userId, device_id: deviceId, homeserver: session.homeserver });
  else invocation.terminal.print(`${userId} at ${session.homeserver}`);
}
