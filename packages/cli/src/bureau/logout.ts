/** `bureau logout`: ends the operator's session at the homeserver, and removes its file. */
import { isRevoked } from "@bureau/matrix/matrix-error";
import { removeDurably } from "@bureau/os/durable-file";
import { roomMemoryOf } from "@bureau/os/layout";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { loginHint, openSessionOfFile, sessionFile } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { homeFlag, jsonFlag } from "../command/shared-flags.ts";

const flags = defineFlags({ ...homeFlag, ...jsonFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "End your session at the homeserver, and remove its file",
  details:
    "The token in the file is worth nothing afterwards. The file stays while the homeserver cannot be asked, so that the\nsession can still be ended.",
  flags,
  examples: ["bureau logout"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const file = sessionFile(invocation);
  const session = openSessionOfFile(invocation);
  // A session that was ended elsewhere leaves only its file.
  const wasValid = await session.logout().then(
    () => true,
    (error: unknown) => {
      if (isRevoked(error)) return false;
      throw error;
    },
  );
  removeDurably(file);
  removeDurably(roomMemoryOf(file));
  if (invocation.flags.json)
    terminal.json({
      user_id: session.userId,
      homeserver: session.homeserver,
      session_file: file,
      was_valid: wasValid,
    });
  else
    terminal.say(
      wasValid
        ? `Logged out ${session.userId}; ${file} is removed`
        : `The homeserver had ended the session of ${session.userId} already; ${file} is removed`,
    );
  sayNext(terminal, loginHint(invocation));
}
