/** `bureau whoami`: whose session the commands use, as the homeserver sees it. */
import { booleanFlag, type Invocation } from "../command/command.ts";
import { openSession } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const session = openSession(invocation);
  const { userId, deviceId } = await session.whoami();
  if (booleanFlag(invocation, "json"))
    invocation.terminal.json({ user_id: userId, device_id: deviceId, homeserver: session.homeserver });
  else invocation.terminal.print(`${userId} at ${session.homeserver}`);
}
