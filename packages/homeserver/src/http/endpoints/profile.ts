/** Display names and avatars: readable by all, writable by their user, copied into every joined room. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { RoomActions } from "../../rooms/room-actions.ts";
import type { JsonObject } from "../../rooms/room-event.ts";
import type { HomeserverDatabase } from "../../store/database.ts";
import { forbidden } from "../matrix-error.ts";
import { param, parseBody, type RequestContext } from "../request.ts";
import { type AuthedRequest, authed, open, type Route } from "../router.ts";

type Deps = { readonly db: HomeserverDatabase; readonly accounts: Accounts; readonly actions: RoomActions };
type Field = "displayname" | "avatar_url";

export function profileEndpoints(deps: Deps): Route[] {
  const read = (request: RequestContext, fields: readonly Field[]): JsonObject => {
    const user = deps.accounts.requireUser(param(request, "userId"));
    const profile: JsonObject = {};
    for (const field of fields) {
      const value = user[field];
      if (value !== null) profile[field] = value;
    }
    return profile;
  };
  return [
    open("GET", "/profile/:userId", (request) => read(request, ["displayname", "avatar_url"])),
    open("GET", "/profile/:userId/displayname", (request) => read(request, ["displayname"])),
    open("GET", "/profile/:userId/avatar_url", (request) => read(request, ["avatar_url"])),
    authed("PUT", "/profile/:userId/displayname", (request) => write(deps, request, "displayname")),
    authed("PUT", "/profile/:userId/avatar_url", (request) => write(deps, request, "avatar_url")),
  ];
}

const value = v.optional(v.nullable(v.string()), null);
const profileSchema = v.object({ displayname: value, avatar_url: value });

async function write(deps: Deps, request: AuthedRequest, field: Field): Promise<JsonObject> {
  const body = await parseBody(request, profileSchema);
  const { userId, isAdmin } = request.session;
  const target = param(request, "userId");
  if (target !== userId && !isAdmin) throw forbidden(`You cannot change the profile of ${target}`);
  const user = deps.accounts.requireUser(target);
  const wanted = body[field] === "" ? null : body[field];
  if (user[field] === wanted) return {};
  deps.db.transaction(() => {
    const [name, avatar] = field === "displayname" ? [wanted, user.avatar_url] : [user.displayname, wanted];
    deps.accounts.setProfile(target, name, avatar);
    deps.actions.spreadProfile(target);
  });
  return {};
}
