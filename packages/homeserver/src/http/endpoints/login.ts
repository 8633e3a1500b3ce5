/** Logging in with a password, and out again. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { Sessions } from "../../auth/sessions.ts";
import type { JsonObject } from "../../rooms/room-event.ts";
import { MatrixError } from "../matrix-error.ts";
import { parseBody, type RequestContext } from "../request.ts";
import { authed, open, type Route } from "../router.ts";

type Deps = { readonly accounts: Accounts; readonly sessions: Sessions };

const loginSchema = v.object({
  type: v.string(),
  identifier: v.optional(v.object({ type: v.string(), user: v.optional(v.string()) })),
  user: v.optional(v.string()),
  password: v.optional(v.string()),
  device_id: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(512)))),
  initial_device_display_name: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(512)))),
});

export function loginEndpoints(deps: Deps): Route[] {
  return [
    open("GET", "/login", () => ({ flows: [{ type: "m.login.password" }] })),
    open("POST", "/login", (request) => logIn(deps, request)),
    authed("POST", "/logout", ({ session }) => {
      deps.sessions.close(session.userId, session.deviceId);
      return {};
    }),
    authed("POST", "/logout/all", ({ session }) => {
      deps.sessions.closeAll(session.userId);
      return {};
    }),
  ];
}

async function logIn(deps: Deps, request: RequestContext): Promise<JsonObject> {
  const body = await parseBody(request, loginSchema);
  if (body.type !== "m.login.password") {
    throw new MatrixError(400, "M_UNKNOWN", `Login type ${body.type.slice(0, 80)} is not one of GET /login`);
  }
  if (body.identifier !== undefined && body.identifier.type !== "m.id.user") {
    throw new MatrixError(
      400,
      "M_UNKNOWN",
      `Identifier type ${body.identifier.type.slice(0, 80)} is not supported`,
    );
  }
  const name = body.identifier === undefined ? body.user : body.identifier.user;
  if (name === undefined) throw new MatrixError(400, "M_MISSING_PARAM", "Missing key identifier.user");
  if (body.password === undefined) throw new MatrixError(400, "M_MISSING_PARAM", "Missing key password");
  const userId = await deps.accounts.logIn(name, body.password, request.remoteAddress ?? "socket");
  const device = { id: body.device_id ?? undefined, name: body.initial_device_display_name ?? undefined };
  const session = deps.sessions.open(userId, device, request.remoteAddress);
  return {
    user_id: userId,
    access_token: session.token,
    device_id: session.deviceId,
    home_server: deps.accounts.serverName,
  };
}
