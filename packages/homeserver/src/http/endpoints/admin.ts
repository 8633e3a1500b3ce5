/** What an operator needs of an admin API, in the shapes of Synapse, so that the same code works on both. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { RoomActions } from "../../rooms/room-actions.ts";
import type { JsonObject } from "../../rooms/room-event.ts";
import { forbidden } from "../matrix-error.ts";
import { param, parseBody } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

type Deps = { readonly accounts: Accounts; readonly actions: RoomActions };

const resetSchema = v.object({ new_password: v.string(), logout_devices: v.optional(v.boolean(), true) });
const adminSchema = v.object({ admin: v.boolean() });

export function adminEndpoints({ accounts, actions }: Deps): Route[] {
  const asAdmin =
    (act: (request: AuthedRequest) => JsonObject | Promise<JsonObject>) =>
    (request: AuthedRequest): JsonObject | Promise<JsonObject> => {
      if (!request.session.isAdmin) throw forbidden("You are not a server admin");
      return act(request);
    };
  return [
    authed(
      ["POST", "PUT"],
      "/_synapse/admin/v1/deactivate/:userId",
      asAdmin((request) => {
        actions.deactivate(param(request, "userId"));
        return { id_server_unbind_result: "success" };
      }),
    ),
    authed(
      ["POST", "PUT"],
      "/_synapse/admin/v1/reset_password/:userId",
      asAdmin(async (request) => {
        const body = await parseBody(request, resetSchema);
        await accounts.changePassword(param(request, "userId"), body.new_password, body.logout_devices);
        return {};
      }),
    ),
    authed(
      "GET",
      "/_synapse/admin/v1/users/:userId/admin",
      asAdmin((request) => ({
        admin: accounts.requireUser(param(request, "userId")).admin === 1,
      })),
    ),
    authed(
      "PUT",
      "/_synapse/admin/v1/users/:userId/admin",
      asAdmin(async (request) => {
        const body = await parseBody(request, adminSchema);
        const userId = accounts.requireUser(param(request, "userId")).user_id;
        if (userId === request.session.userId && !body.admin)
          throw forbidden("You cannot take your own admin right");
        accounts.setAdmin(userId, body.admin);
        return {};
      }),
    ),
    authed(
      "GET",
      "/_synapse/admin/v2/users/:userId",
      asAdmin((request) => {
        const user = accounts.requireUser(param(request, "userId"));
        return {
          name: user.user_id,
          displayname: user.displayname,
          avatar_url: user.avatar_url,
          admin: user.admin === 1,
          deactivated: user.deactivated === 1,
          creation_ts: user.created_ts,
        };
      }),
    ),
  ];
}
