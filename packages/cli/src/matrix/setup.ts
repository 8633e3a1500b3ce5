/**
 * `bureau matrix setup`: creates an administrator, the rooms and the templates of a namespace, on any homeserver whose
 * registration token the person has.
 */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { repairFleets } from "@bureau/control/machines/machine-room-repair";
import { ADMIN_NAME, type Credentials, ensureAdministrator } from "@bureau/control/principals/administrator";
import { ensureNamespace } from "@bureau/control/rooms/namespace-setup";
import { requireAccounts } from "@bureau/control/rooms/people";
import { warnOf } from "@bureau/control/warn-of-ignored";
import { credentialFileAt, writeCredentials } from "@bureau/instance/credential-file";
import { BureauError } from "@bureau/kit/errors";
import { runStep } from "@bureau/kit/run-step";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { NO_RATE_LIMIT, ServerAdmin } from "@bureau/matrix/server-admin";
import type { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { readNamedSecret } from "@bureau/os/named-file";
import { writeOperatorSession } from "@bureau/os/session-file";
import { parseNamespace, parseServerName, parseUserId, serverOf, type UserId } from "@bureau/schema/refs";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { credentialFile, parseAddress, sessionFile } from "../command/operator.ts";
import { homeFlag, jsonFlag } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";

const flags = defineFlags({
  ...homeFlag,
  ...jsonFlag,
  homeserver: {
    type: "string",
    value: "URL",
    summary: "The homeserver (default: http://localhost:6167)",
  },
  "registration-token-file": {
    type: "string",
    value: "PATH",
    summary: 'File with the homeserver\'s registration token; "-" for standard input',
  },
  "credential-file": {
    type: "string",
    value: "PATH",
    summary: "Where the administrator's credentials go (default: ~/.config/bureau/credentials)",
  },
  "server-name": { type: "string", value: "NAME", summary: "What the homeserver must call itself" },
  namespace: { type: "string", value: "NAME", summary: "The namespace (default: bureau)" },
  "admin-user": {
    type: "string",
    value: "NAME",
    summary: "The administrator's localpart (default: bureau-admin)",
  },
  invite: { type: "string", value: "USER", multiple: true, summary: "Invite a user ID" },
  "admin-token-file": {
    type: "string",
    value: "PATH",
    summary: "Access token of a server admin, to lift the homeserver's rate limits for the administrator",
  },
  "server-admin": {
    type: "boolean",
    summary: "Make the administrator a server admin too: lets it revoke and limit its machines and agents",
  },
});
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "Set up a namespace on a homeserver: administrator, rooms, templates",
  details:
    "Works on any homeserver that registers accounts with a token. Run again, it makes what is missing. The credential\nfile (0600) is the administrator's; an operator session is kept as well, unless there is one.",
  flags,
  examples: [
    "bureau matrix setup --homeserver https://matrix.example.org --registration-token-file token --credential-file creds",
  ],
  run,
});

/** The reference's own default (wire facts, section 10.10). */
const HOMESERVER_DEFAULT = "http://localhost:6167";

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const namespace = parseNamespace(invocation.flags.namespace ?? "bureau");
  const invitees = invocation.flags.invite.map(parseUserId);
  const file = resolve(credentialFile(invocation));
  const admin = await serverAdminNamed(invocation);
  const { session, credentials } = await runStep(
    terminal,
    "Administrator account",
    () => administrator(invocation, file),
    ({ credentials: { adminUser } }) => `Administrator ${adminUser}`,
  );
  await requireAccounts(session, invitees);
  const rateLimit = await liftRateLimit(invocation, admin, credentials);
  const { rooms, published } = await runStep(
    terminal,
    `Rooms of ${namespace}`,
    async ({ note }) => {
      const made = await ensureNamespace(session, namespace, invitees, note).catch((error: unknown) => {
        throw notAllowed(error, session.userId);
      });
      await repairFleets(session, namespace, note);
      return made;
    },
    ({ published: names }) =>
      `Rooms of ${namespace}${names.length === 0 ? "" : `, and templates ${names.join(", ")}`}`,
  );
  const { lobby: _, ...recorded } = rooms;
  writeCredentials(file, { ...credentials, rooms: recorded });
  const login = keepSession(invocation, session, credentials);
  if (invocation.flags.json)
    terminal.json({
      homeserver: session.homeserver,
      namespace,
      admin_user: session.userId,
      credential_file: file,
      rate_limit: rateLimit,
      server_admin: invocation.flags["server-admin"],
      session_file: login.file,
      session_written: login.written,
      rooms,
      templates_published: published,
    });
  else {
    terminal.print(file);
    terminal.say(`
Anyone who can read that file has full control over ${namespace}. ${login.written ? `Your session is kept in ${login.file}.` : `The session in ${login.file} stays; act as the administrator with --credential-file ${file}.`}
${asTyped(`Type next: bureau fleet create ${namespace}/fleet/NAME`)}`);
  }
}

/** Before a namespace has rooms, only a server admin can permit the administrator to create them. */
function notAllowed(error: unknown, user: UserId): unknown {
  if (!(error instanceof MatrixError) || error.code !== "forbidden") return error;
  return new BureauError("forbidden", error.message, {
    hint: `make ${user} a server admin, by the access token of one: run this again with --server-admin --admin-token-file PATH; or omit --admin-user`,
  });
}

const homeserverOf = (invocation: Asked): string =>
  parseAddress(invocation.flags.homeserver) ?? HOMESERVER_DEFAULT;

/**
 * The server admin whose token was given; undefined when none was.
 * @throws BureauError before any change when the token is not a server admin's
 */
async function serverAdminNamed(invocation: Asked): Promise<ServerAdmin | undefined> {
  const file = invocation.flags["admin-token-file"];
  if (file === undefined) {
    if (invocation.flags["server-admin"])
      throw new BureauError("invalid-input", "--server-admin needs the token of a server admin", {
        hint: "--admin-token-file PATH with the access token of a server admin",
      });
    return undefined;
  }
  const homeserver = homeserverOf(invocation);
  const admin = new ServerAdmin({
    homeserver,
    fetch: egressFetch,
    token: readNamedSecret(file, "the admin token file"),
  });
  const answer = await admin.accounts();
  if (!("kind" in answer)) return admin;
  throw new BureauError(
    answer.isAbsent ? "unsupported" : "forbidden",
    `Cannot use --admin-token-file "${file}" at "${homeserver}": ${answer.reason}`,
    {
      hint: answer.isAbsent
        ? "run it without the flag; requests then wait for the homeserver's rate limit"
        : "use the access token of an account that is a server admin",
    },
  );
}

/** `stands`: a server admin could lift it. `unknown`: the homeserver has no way to lift one for a user. */
type RateLimitState = "lifted" | "stands" | "unknown";

/** Lifts the rate limit of the administrator, where the homeserver has an API for it. Otherwise says what follows. */
async function liftRateLimit(
  invocation: Asked,
  named: ServerAdmin | undefined,
  { homeserver, adminUser, adminToken }: Credentials,
): Promise<RateLimitState> {
  const { terminal } = invocation;
  const user = parseUserId(adminUser);
  if (named !== undefined && invocation.flags["server-admin"]) {
    const answer = await named.makeAdmin(user);
    if (answer.kind === "refused")
      throw new BureauError("forbidden", `Cannot make "${user}" a server admin: ${answer.reason}`);
    terminal.say(`  ${user} is a server admin now`);
  }
  const admin = named ?? new ServerAdmin({ homeserver, fetch: egressFetch, token: adminToken });
  const answer = await admin.setRateLimit(user, NO_RATE_LIMIT);
  if (answer.kind === "done") return "lifted";
  terminal.say(
    answer.isAbsent
      ? "  This homeserver has no API to lift its rate limits: commands wait for them, and show each wait"
      : "  The homeserver's rate limits apply to you: on a stock Synapse a machine takes about eight minutes. To lift them: --admin-token-file PATH",
  );
  return answer.isAbsent ? "unknown" : "stands";
}

async function administrator(
  invocation: Asked,
  file: string,
): Promise<{ session: MatrixSession; credentials: Credentials }> {
  const tokenFile = invocation.flags["registration-token-file"];
  if (tokenFile === undefined)
    throw new BureauError("invalid-input", "Cannot create an administrator without a registration token", {
      hint: '--registration-token-file PATH, or "-" for standard input',
    });
  const username = invocation.flags["admin-user"] ?? ADMIN_NAME;
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const made = await ensureAdministrator({
    fetch: egressFetch,
    homeserver: homeserverOf(invocation),
    registrationToken: readNamedSecret(tokenFile, "the registration token file"),
    store: credentialFileAt(file),
    username,
    onIgnored: warnOf(invocation.terminal),
  }).catch((error: unknown) => {
    if (!(error instanceof MatrixError && (error.code === "forbidden" || error.code === "unauthorized")))
      throw error;
    throw new BureauError("forbidden", `Cannot become "${username}" with this registration token`, {
      cause: error,
      hint: "check that it is the homeserver's registration token. If the account was created with another one, choose another --admin-user",
    });
  });
  const wanted = invocation.flags["server-name"];
  const server = serverOf(made.session.userId);
  if (wanted !== undefined && parseServerName(wanted) !== server)
    throw new BureauError("invalid-input", `The homeserver calls itself "${server}", not "${wanted}"`, {
      hint: `--server-name ${server}, or check --homeserver`,
    });
  return made;
}

/** Keeps a session file that exists: it may be another user's session. */
function keepSession(
  invocation: Asked,
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
