/** The part of an admin API that an operator needs, in Synapse's shapes, so that the same code works on both. */
import { version } from "@bureau/kit/version";
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { Sessions } from "../../auth/sessions.ts";
import type { RoomActions } from "../../rooms/room-actions.ts";
import type { JsonObject } from "../../rooms/room-event.ts";
import type { AccountStore, UserRow } from "../../store/account-store.ts";
import { forbidden, invalidParam, MatrixError } from "../matrix-error.ts";
import { intQuery, param, parseBody, parseValue } from "../request.ts";
import { type Answer, type AuthedRequest, authed, Created, open, type Route } from "../router.ts";
import { deviceJson } from "./devices.ts";

type Deps = {
  readonly accounts: Accounts;
  readonly actions: RoomActions;
  readonly sessions: Sessions;
  readonly store: AccountStore;
};

const resetSchema = v.object({ new_password: v.string(), logout_devices: v.optional(v.boolean(), true) });
/** Deactivating always removes the profile; there is nothing more to erase. */
const eraseSchema = v.object({ erase: v.optional(v.boolean()) });
const adminSchema = v.object({ admin: v.boolean() });

const asAdmin =
  (act: (request: AuthedRequest) => Answer | Promise<Answer>) =>
  (request: AuthedRequest): Answer | Promise<Answer> => {
    if (!request.session.isAdmin) throw forbidden("You are not a server admin");
    return act(request);
  };

export const adminEndpoints = (deps: Deps): Route[] => [
  // The Go implementation asks first whether there is such an API before it provisions.
  open("GET", "/_synapse/admin/v1/server_version", () => ({ server_version: `Bureau ${version}` })),
  ...rightEndpoints(deps),
  ...userEndpoints(deps),
  ...deviceEndpoints(deps),
];

function rightEndpoints({ accounts, actions }: Deps): Route[] {
  return [
    authed(
      ["POST", "PUT"],
      "/_synapse/admin/v1/deactivate/:userId",
      asAdmin(async (request) => {
        refuseUnknown(await request.json(), eraseSchema.entries);
        actions.deactivate(param(request, "userId"));
        return { id_server_unbind_result: "success" };
      }),
    ),
    authed(
      ["POST", "PUT"],
      "/_synapse/admin/v1/reset_password/:userId",
      asAdmin(async (request) => {
        const body = parseValue(resetSchema, refuseUnknown(await request.json(), resetSchema.entries));
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
  ];
}

function userEndpoints({ accounts, actions }: Pick<Deps, "accounts" | "actions">): Route[] {
  return [
    authed(
      "GET",
      "/_synapse/admin/v2/users",
      asAdmin((request) => listUsers(accounts, request)),
    ),
    authed(
      "GET",
      "/_synapse/admin/v2/users/:userId",
      asAdmin((request) => userJson(accounts.requireUser(param(request, "userId")))),
    ),
    authed(
      "PUT",
      "/_synapse/admin/v2/users/:userId",
      asAdmin((request) => putUser({ accounts, actions }, request)),
    ),
  ];
}

const devicesSchema = v.object({ devices: v.array(v.string()) });

function deviceEndpoints({ accounts, sessions, store }: Deps): Route[] {
  const userOf = (request: AuthedRequest): string => accounts.requireUser(param(request, "userId")).user_id;
  return [
    authed(
      "GET",
      "/_synapse/admin/v2/users/:userId/devices",
      asAdmin((request) => {
        const devices = store.devices(userOf(request)).map(deviceJson);
        return { devices, total: devices.length };
      }),
    ),
    authed(
      "POST",
      "/_synapse/admin/v2/users/:userId/delete_devices",
      asAdmin(async (request) => {
        const { devices } = await parseBody(request, devicesSchema);
        const user = userOf(request);
        for (const id of devices) sessions.close(user, id);
        return {};
      }),
    ),
  ];
}

const userSchema = v.object({
  password: v.optional(v.string()),
  displayname: v.optional(v.nullable(v.string())),
  admin: v.optional(v.boolean()),
  deactivated: v.optional(v.boolean()),
  logout_devices: v.optional(v.boolean(), true),
});
/** Refuses changes that this server does not support, so that they are not mistaken for done. Accepts empty ones. */
function refuseUnknown(body: JsonObject, known: object): JsonObject {
  for (const [key, value] of Object.entries(body)) {
    const asksNothing = value === false || value === null || (Array.isArray(value) && value.length === 0);
    if (!(key in known) && !asksNothing)
      throw new MatrixError(
        400,
        "M_UNRECOGNIZED",
        `This homeserver cannot do "${key.slice(0, 80)}" to an account`,
      );
  }
  return body;
}

type UserChange = v.InferOutput<typeof userSchema>;

/** Creates the account, or changes the fields of the body. Reactivation needs a password. */
async function putUser(deps: Pick<Deps, "accounts" | "actions">, request: AuthedRequest): Promise<Answer> {
  const { accounts } = deps;
  const body = parseValue(userSchema, refuseUnknown(await request.json(), userSchema.entries));
  const userId = param(request, "userId");
  if (accounts.find(userId) !== undefined) {
    await changeUser(deps, request.session.userId, userId, body);
    return userJson(accounts.requireUser(userId));
  }
  const localpart = accounts.localpartOf(userId);
  if (body.password === undefined) throw new MatrixError(400, "M_MISSING_PARAM", "Missing key password");
  await accounts.register(localpart, body.password);
  await changeUser(deps, request.session.userId, userId, { ...body, password: undefined });
  return new Created(userJson(accounts.requireUser(userId)));
}

async function changeUser(
  { accounts, actions }: Pick<Deps, "accounts" | "actions">,
  adminId: string,
  userId: string,
  body: UserChange,
): Promise<void> {
  const user = accounts.requireUser(userId);
  if (userId === adminId && (body.admin === false || body.deactivated === true)) {
    throw forbidden("You cannot take your own admin right");
  }
  if (user.deactivated === 1 && body.deactivated === false) {
    if (body.password === undefined) throw invalidParam("To reactivate an account, give it a new password");
    await accounts.reactivate(userId, body.password);
  } else if (body.password !== undefined) {
    await accounts.changePassword(userId, body.password, body.logout_devices);
  }
  if (body.admin !== undefined) accounts.setAdmin(userId, body.admin);
  if (body.displayname !== undefined) {
    accounts.setProfile(userId, body.displayname, accounts.requireUser(userId).avatar_url);
    actions.spreadProfile(userId);
  }
  if (body.deactivated === true && user.deactivated === 0) actions.deactivate(userId);
}

const USERS_PER_PAGE = 100;
const USERS_PER_PAGE_MAX = 1_000;

function listUsers(accounts: Accounts, { query }: AuthedRequest): JsonObject {
  const limit = intQuery(query, "limit", USERS_PER_PAGE, USERS_PER_PAGE_MAX);
  const from = intQuery(query, "from", 0, Number.MAX_SAFE_INTEGER);
  const withClosed = query.get("deactivated") === "true";
  const found = accounts.list({ withClosed, limit: limit + 1, from });
  return {
    users: found.slice(0, limit).map(userJson),
    ...(found.length > limit ? { next_token: String(from + limit) } : {}),
  };
}

function userJson(user: UserRow): JsonObject {
  return {
    name: user.user_id,
    displayname: user.displayname,
    avatar_url: user.avatar_url,
    admin: user.admin === 1,
    deactivated: user.deactivated === 1,
    locked: false,
    suspended: false,
    creation_ts: user.created_ts,
  };
}
