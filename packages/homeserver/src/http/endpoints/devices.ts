/** The devices of the caller's account. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { InteractiveAuth } from "../../auth/interactive-auth.ts";
import type { Sessions } from "../../auth/sessions.ts";
import type { JsonObject } from "../../rooms/room-event.ts";
import type { AccountStore, DeviceRow } from "../../store/account-store.ts";
import { notFound } from "../matrix-error.ts";
import { param, parseBody, parseValue } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";
import { passwordStage } from "./account.ts";

type Deps = {
  readonly store: AccountStore;
  readonly accounts: Accounts;
  readonly sessions: Sessions;
  readonly interactive: InteractiveAuth;
};

const nameSchema = v.object({ display_name: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(512)))) });
const listSchema = v.object({ devices: v.array(v.string()) });

export function deviceEndpoints(deps: Deps): Route[] {
  const find = (request: AuthedRequest): DeviceRow => {
    const device = deps.store.device(request.session.userId, param(request, "deviceId"));
    if (device === undefined) throw notFound("You have no device with that ID");
    return device;
  };
  return [
    authed("GET", "/devices", ({ session }) => ({
      devices: deps.store.devices(session.userId).map(deviceJson),
    })),
    authed("GET", "/devices/:deviceId", (request) => deviceJson(find(request))),
    authed("PUT", "/devices/:deviceId", async (request) => {
      const body = await parseBody(request, nameSchema);
      const device = find(request);
      if (body.display_name !== undefined) {
        deps.store.renameDevice(request.session.userId, device.device_id, body.display_name);
      }
      return {};
    }),
    authed("DELETE", "/devices/:deviceId", async (request) =>
      remove(deps, request, await request.json(), [param(request, "deviceId")]),
    ),
    authed("POST", "/delete_devices", async (request) => {
      const json = await request.json();
      return remove(deps, request, json, parseValue(listSchema, json).devices);
    }),
  ];
}

async function remove(
  deps: Deps,
  request: AuthedRequest,
  json: JsonObject,
  ids: string[],
): Promise<JsonObject> {
  const { userId } = request.session;
  const purpose = `devices ${userId} ${JSON.stringify(ids)}`;
  await deps.interactive.require(json, purpose, passwordStage(deps.accounts, userId));
  for (const id of ids) deps.sessions.close(userId, id);
  return {};
}

export const deviceJson = (device: DeviceRow): JsonObject => ({
  device_id: device.device_id,
  display_name: device.display_name,
  last_seen_ts: device.last_seen_ts,
  last_seen_ip: device.last_seen_ip,
});
