/** The caller's account: whoami, password, deactivation. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { InteractiveAuth, Stage } from "../../auth/interactive-auth.ts";
import type { RoomActions } from "../../rooms/room-actions.ts";
import { isJsonObject, type JsonObject, stringField } from "../../rooms/room-event.ts";
import { MatrixError } from "../matrix-error.ts";
import { parseValue } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

type Deps = {
  readonly accounts: Accounts;
  readonly actions: RoomActions;
  readonly interactive: InteractiveAuth;
};

const passwordSchema = v.object({
  new_password: v.optional(v.string()),
  logout_devices: v.optional(v.boolean(), true),
});

export function accountEndpoints(deps: Deps): Route[] {
  return [
    authed("GET", "/account/whoami", ({ session }) => ({
      user_id: session.userId,
      device_id: session.deviceId,
      is_guest: false,
    })),
    authed("POST", "/account/password", (request) => changePassword(deps, request)),
    authed("POST", "/account/deactivate", (request) => deactivate(deps, request)),
    authed("GET", "/account/3pid", () => ({ threepids: [] })),
  ];
}

async function changePassword(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const { userId, deviceId } = request.session;
  const json = await request.json();
  const body = parseValue(passwordSchema, json);
  await deps.interactive.require(json, `password ${userId}`, passwordStage(deps.accounts, userId));
  // Checked only here: clients send an empty body to learn the flows.
  if (body.new_password === undefined)
    throw new MatrixError(400, "M_MISSING_PARAM", "Missing key new_password");
  await deps.accounts.changePassword(userId, body.new_password, body.logout_devices, deviceId);
  return {};
}

async function deactivate(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const { userId } = request.session;
  await deps.interactive.require(
    await request.json(),
    `deactivate ${userId}`,
    passwordStage(deps.accounts, userId),
  );
  deps.actions.deactivate(userId);
  return { id_server_unbind_result: "success" };
}

/** The stage that asks for the password of the user whose token made the request. */
export const passwordStage = (accounts: Accounts, userId: string): Stage => ({
  type: "m.login.password",
  check: async (auth) => {
    const identifier = auth["identifier"];
    const named = isJsonObject(identifier) ? stringField(identifier, "user") : stringField(auth, "user");
    if (named !== undefined && accounts.userIdOf(named) !== userId) {
      throw new MatrixError(
        403,
        "M_FORBIDDEN",
        "The password must be that of the account of the access token",
      );
    }
    const password = stringField(auth, "password");
    if (password === undefined) throw new MatrixError(400, "M_MISSING_PARAM", "Missing key auth.password");
    await accounts.checkPassword(userId, password);
  },
});
