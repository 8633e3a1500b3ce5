/** `bureau whoami`: the session that commands use: its user, its homeserver, its file, and whether the homeserver accepts it. */
import { isRevoked } from "@bureau/matrix/matrix-error";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { openSession, sourceOfSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "Show whose session the commands use, where it is kept, and whether it is valid",
  details: "Exits with 1 when the homeserver does not accept the session.",
  flags,
  examples: ["bureau whoami", "bureau whoami --json"],
  run,
});

async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const { homeserver } = session;
  const file = sourceOfSession(invocation);
  const seen = await session.whoami().catch((error: unknown) => {
    if (isRevoked(error)) return undefined;
    throw error;
  });
  const isAccepted = seen !== undefined;
  const user = seen?.userId ?? session.userId;
  if (invocation.flags.json)
    terminal.json({
      ok: isAccepted,
      user_id: user,
      device_id: seen?.deviceId ?? "",
      homeserver,
      session_file: file,
      accepted: isAccepted,
    });
  else {
    terminal.print(`${user} at ${homeserver}`);
    terminal.print(
      `The session is in ${file}; the homeserver ${isAccepted ? "accepts" : "does not accept"} it`,
    );
  }
  if (!isAccepted) sayNext(terminal, `bureau login ${user} --homeserver ${homeserver}`);
  return isAccepted ? 0 : 1;
}
