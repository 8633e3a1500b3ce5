/**
 * `bureau matrix setup`: an administrator, the rooms and the templates of a namespace, on any homeserver whose
 * registration token is at hand.
 */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { MatrixError } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { writeOperatorSession } from "@bureau/matrix/session-file";
import { parseNamespace, parseServerName, parseUserId, serverOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, listFlag, stringFlag } from "../command/command.ts";
import { runStep } from "../command/run-step.ts";
import {
  ADMIN_NAME,
  type Credentials,
  ensureAdministrator,
  writeCredentials,
} from "../instance/administrator.ts";
import { ensureNamespace, publishBuiltinTemplates } from "../instance/namespace-setup.ts";
import { addressFlag, credentialFile, readInput, sessionFile, warnOf } from "../instance/operator.ts";
import { inviteUnlessThere } from "../instance/provision.ts";

/** The reference's own default (wire facts, section 10.10). */
const HOMESERVER_DEFAULT = "http://localhost:6167";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const namespace = parseNamespace(stringFlag(invocation, "namespace") ?? "bureau");
  const invitees = listFlag(invocation, "invite").map(parseUserId);
  const file = resolve(credentialFile(invocation));
  const { session, credentials } = await runStep(
    terminal,
    "Administrator account",
    () => administrator(invocation, file),
    ({ credentials: { adminUser } }) => `Administrator ${adminUser}`,
  );
  const rooms = await runStep(terminal, `Rooms of ${namespace}`, async () => {
    const made = await ensureNamespace(session, namespace);
    for (const room of Object.values(made))
      for (const user of invitees) await inviteUnlessThere(session, room, user);
    return made;
  });
  const published = await runStep(
    terminal,
    "Built-in templates",
    () => publishBuiltinTemplates(session, namespace, rooms.template),
    (names) => (names.length === 0 ? "Built-in templates are there" : `Templates ${names.join(", ")}`),
  );
  const { lobby: _, ...recorded } = rooms;
  writeCredentials(file, { ...credentials, rooms: recorded });
  const login = keepSession(invocation, session, credentials);
  if (booleanFlag(invocation, "json"))
    terminal.json({
      ...{ homeserver: session.homeserver, namespace, admin_user: session.userId, credential_file: file },
      ...{ session_file: login.file, session_written: login.written, rooms, templates_published: published },
    });
  else {
    terminal.print(file);
    terminal.say(`
Whoever reads that file can do everything in ${namespace}. ${login.written ? `Your session is kept in ${login.file}.` : `The session in ${login.file} stays; act as the administrator with --credential-file ${file}.`}
Type next: bureau fleet create ${namespace}/fleet/NAME`);
  }
}

async function administrator(
  invocation: Invocation,
  file: string,
): Promise<{ session: MatrixSession; credentials: Credentials }> {
  const tokenFile = stringFlag(invocation, "registration-token-file");
  if (tokenFile === undefined)
    throw new BureauError("invalid-input", "Cannot make an administrator without a registration token", {
      hint: '--registration-token-file PATH, or "-" for standard input',
    });
  const username = stringFlag(invocation, "admin-user") ?? ADMIN_NAME;
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const made = await ensureAdministrator({
    homeserver: addressFlag(invocation) ?? HOMESERVER_DEFAULT,
    registrationToken: readInput(tokenFile).trim(),
    credentialFile: file,
    username,
    onIgnored: warnOf(invocation.terminal),
  }).catch((error: unknown) => {
    if (!(error instanceof MatrixError && (error.code === "forbidden" || error.code === "unauthorized")))
      throw error;
    throw new BureauError("forbidden", `Cannot become "${username}" with this registration token`, {
      cause: error,
      hint: "is it the homeserver's registration token? If the account exists and was made with another one, choose another --admin-user",
    });
  });
  const wanted = stringFlag(invocation, "server-name");
  const server = serverOf(made.session.userId);
  if (wanted !== undefined && parseServerName(wanted) !== server)
    throw new BureauError("invalid-input", `The homeserver calls itself "${server}", not "${wanted}"`, {
      hint: `--server-name ${server}, or check --homeserver`,
    });
  return made;
}

/** A session that is there is somebody's, and stays. */
function keepSession(
  invocation: Invocation,
  session: MatrixSession,
  credentials: Credentials,
): { file: string; written: boolean } {
  const file = sessionFile(invocation);
  if (existsSync(file)) return { file, written: false };
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeOperatorSession(file, {
    homeserver: session.homeserver,
    userId: session.userId,
    token: credentials.adminToken,
  });
  return { file, written: true };
}
