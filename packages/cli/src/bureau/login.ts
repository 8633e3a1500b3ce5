/** `bureau login`: stores an operator's session in a 0600 file. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { login } from "@bureau/matrix/auth";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { egressFetch } from "@bureau/os/egress";
import { readNamedSecret } from "@bureau/os/named-file";
import { writeOperatorSession } from "@bureau/os/session-file";
import { askPassword } from "../command/ask-password.ts";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { findInstallation } from "../command/installation.ts";
import { parseAddress, sessionFile } from "../command/operator.ts";
import { homeFlag, jsonFlag } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...homeFlag,
  homeserver: { type: "string", value: "URL", summary: "The homeserver (default: the instance's)" },
  "password-file": {
    type: "string",
    value: "PATH",
    summary: 'File with the password; "-" for standard input',
  },
  ...jsonFlag,
});
const positionals = definePositionals([{ name: "username", summary: "Localpart or full user ID" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Log in as an operator; stores the session in your own file",
  positionals,
  flags,
  examples: ["bureau login alice", "pass bureau/alice | bureau login alice --password-file -"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const typed = invocation.args.username;
  // Other commands take a person as @NAME; a whole user ID has its server.
  const user = typed.startsWith("@") && !typed.includes(":") ? typed.slice(1) : typed;
  const homeserver = parseAddress(invocation.flags.homeserver) ?? findInstallation(invocation)?.homeserverUrl;
  if (homeserver === undefined)
    throw new BureauError("invalid-input", "Cannot log in: no homeserver given", {
      hint: "--homeserver URL",
    });
  const passwordFile = invocation.flags["password-file"];
  const password =
    passwordFile === undefined ? await askPassword(user) : readNamedSecret(passwordFile, "the password file");
  const granted = await login({ homeserver, fetch: egressFetch, user, password, deviceName: "bureau" }).catch(
    (error: unknown) => {
      if (!(error instanceof MatrixError) || error.errcode !== "M_FORBIDDEN") throw error;
      throw new BureauError(
        "forbidden",
        `Cannot log in as "${user}": the user name or the password is wrong`,
        {
          hint: `an administrator makes accounts: bureau matrix user create ${user}`,
        },
      );
    },
  );
  const file = sessionFile(invocation);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeOperatorSession(file, { homeserver, userId: granted.userId, token: granted.token });
  if (invocation.flags.json) terminal.json({ user_id: granted.userId, homeserver, session_file: file });
  terminal.say(`Logged in as ${granted.userId}; the session is kept in ${file}`);
}
