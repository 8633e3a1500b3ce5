/** Creating accounts: registration needs the server's token, by user-interactive authentication. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { InteractiveAuth, Stage } from "../../auth/interactive-auth.ts";
import { randomLetters } from "../../auth/random-id.ts";
import type { Sessions } from "../../auth/sessions.ts";
import { type JsonObject, stringField } from "../../rooms/room-event.ts";
import { MatrixError } from "../matrix-error.ts";
import { parseValue, type RequestContext } from "../request.ts";
import { open, type Route } from "../router.ts";

type Deps = {
  readonly accounts: Accounts;
  readonly sessions: Sessions;
  readonly interactive: InteractiveAuth;
};

const registerSchema = v.object({
  username: v.optional(v.nullable(v.string())),
  password: v.optional(v.nullable(v.string())),
  device_id: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(512)))),
  initial_device_display_name: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(512)))),
  inhibit_login: v.optional(v.nullable(v.boolean())),
});

export function registerEndpoints(deps: Deps): Route[] {
  return [
    open("POST", "/register", (request) => register(deps, request)),
    open("GET", "/register/available", ({ query }) => {
      const username = query.get("username");
      if (username === null)
        throw new MatrixError(400, "M_MISSING_PARAM", "Missing query parameter username");
      deps.accounts.availableUserId(username);
      return { available: true };
    }),
    open("GET", "/register/m.login.registration_token/validity", ({ query }) => {
      const token = query.get("token");
      if (token === null) throw new MatrixError(400, "M_MISSING_PARAM", "Missing query parameter token");
      return { valid: deps.accounts.isRegistrationToken(token) };
    }),
  ];
}

async function register(deps: Deps, request: RequestContext): Promise<JsonObject> {
  if (request.query.get("kind") === "guest") {
    throw new MatrixError(403, "M_GUEST_ACCESS_FORBIDDEN", "Guest accounts are not enabled on this server");
  }
  const json = await request.json();
  const body = parseValue(registerSchema, json);
  if (body.username != null) deps.accounts.availableUserId(body.username);
  await deps.interactive.require(json, "register", tokenStage(deps.accounts));
  if (body.password == null) throw new MatrixError(400, "M_MISSING_PARAM", "Missing key password");
  const userId = await deps.accounts.register(
    body.username ?? randomLetters(12).toLowerCase(),
    body.password,
  );
  if (body.inhibit_login) return { user_id: userId, home_server: deps.accounts.serverName };
  const device = { id: body.device_id ?? undefined, name: body.initial_device_display_name ?? undefined };
  const session = deps.sessions.open(userId, device, request.remoteAddress);
  return {
    user_id: userId,
    access_token: session.token,
    device_id: session.deviceId,
    home_server: deps.accounts.serverName,
  };
}

const tokenStage = (accounts: Accounts): Stage => ({
  type: "m.login.registration_token",
  check: (auth) => {
    const token = stringField(auth, "token");
    if (token === undefined) throw new MatrixError(401, "M_MISSING_PARAM", "Missing key token");
    if (!accounts.isRegistrationToken(token))
      throw new MatrixError(401, "M_UNAUTHORIZED", "Invalid registration token");
  },
});
