/** `bureau login`: keeps an operator's session in a 0600 file. */

import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { login } from "@bureau/matrix/auth";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { egressFetch } from "@bureau/os/egress";
import { readNamedSecret } from "@bureau/os/named-file";
import { writeOperatorSession } from "@bureau/os/session-file";
import { askPassword } from "../command/ask-password.ts";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { findInstallation } from "../command/installation.ts";
import { addressFlag, sessionFile } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal, args } = invocation;
  const user = args[0] ?? "";
  const homeserver = addressFlag(invocation) ?? findInstallation(invocation)?.homeserverUrl;
  if (homeserver === undefined)
    throw new BureauError("invalid-input", "Cannot log in: which homeserver?", { hint: "--homeserver URL" });
  const passwordFile = stringFlag(invocation, "password-file");
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
  if (booleanFlag(invocation, "json"))
    terminal.json({ user_id: granted.userId, homeserver, session_file: file });
  terminal.say(`Logged in as ${granted.userId}; the session is kept in ${file}`);
}
