/** Keys of devices and messages between devices: stored and delivered, so that encrypting clients can start. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { InteractiveAuth } from "../../auth/interactive-auth.ts";
import { EVENT_BYTES_MAX } from "../../rooms/content-limits.ts";
import { isJsonObject, type Json, type JsonObject, objectField } from "../../rooms/room-event.ts";
import type { RoomRegistry } from "../../rooms/room-registry.ts";
import type { AccountStore } from "../../store/account-store.ts";
import type { HomeserverDatabase } from "../../store/database.ts";
import type { DeviceStore, KeyUpload } from "../../store/device-store.ts";
import type { Notifier } from "../../sync/notifier.ts";
import { parseToken } from "../../sync/stream-token.ts";
import { invalidParam, MatrixError, tooLarge } from "../matrix-error.ts";
import { param, parseBody, parseValue } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";
import { passwordStage } from "./account.ts";

type Deps = {
  readonly db: HomeserverDatabase;
  readonly devices: DeviceStore;
  readonly accounts: Accounts;
  readonly store: AccountStore;
  readonly registry: RoomRegistry;
  readonly notifier: Notifier;
  readonly interactive: InteractiveAuth;
};

const jsonObject = v.custom<JsonObject>(isJsonObject, "must be an object");
const uploadSchema = v.looseObject({
  device_keys: v.optional(v.nullable(jsonObject)),
  one_time_keys: v.optional(v.nullable(jsonObject)),
  fallback_keys: v.optional(v.nullable(jsonObject)),
});
const querySchema = v.looseObject({ device_keys: v.record(v.string(), v.array(v.string())) });
const claimSchema = v.looseObject({ one_time_keys: v.record(v.string(), v.record(v.string(), v.string())) });
const messagesSchema = v.looseObject({ messages: v.record(v.string(), v.record(v.string(), jsonObject)) });
const crossSigningSchema = v.looseObject({
  master_key: v.optional(jsonObject),
  self_signing_key: v.optional(jsonObject),
  user_signing_key: v.optional(jsonObject),
});

/** Maximum unused one-time keys of a device. */
const ONE_TIME_KEYS_MAX = 1_000;

export function keyEndpoints(deps: Deps): Route[] {
  return [
    authed("POST", "/keys/upload", (request) => upload(deps, request)),
    authed("POST", "/keys/query", (request) => query(deps, request)),
    authed("POST", "/keys/claim", (request) => claim(deps, request)),
    authed("GET", "/keys/changes", (request) => changes(deps, request)),
    authed("POST", "/keys/device_signing/upload", (request) => uploadCrossSigning(deps, request)),
    authed("POST", "/keys/signatures/upload", async (request) => {
      await request.json();
      return { failures: {} };
    }),
    authed("PUT", "/sendToDevice/:eventType/:txnId", (request) => sendToDevice(deps, request)),
    authed("GET", "/room_keys/version", () => {
      throw new MatrixError(404, "M_NOT_FOUND", "No key backup: this server keeps none");
    }),
  ];
}

async function upload(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, uploadSchema);
  const { userId, deviceId } = request.session;
  const oneTime = keyList(body.one_time_keys ?? {});
  if (oneTime.length > ONE_TIME_KEYS_MAX) throw invalidParam(`More than ${ONE_TIME_KEYS_MAX} one-time keys`);
  const deviceKeys = body.device_keys ?? undefined;
  if (
    deviceKeys !== undefined &&
    (deviceKeys["user_id"] !== userId || deviceKeys["device_id"] !== deviceId)
  ) {
    throw invalidParam("device_keys are of another user or device than the access token");
  }
  deps.db.transaction(() => {
    if (deviceKeys !== undefined) {
      deps.devices.setDeviceKeys(userId, deviceId, deviceKeys);
      deps.db.afterCommit(() => deps.notifier.wakeForDeviceList(userId));
    }
    for (const key of oneTime) deps.devices.addOneTimeKey(userId, deviceId, key);
    for (const key of keyList(body.fallback_keys ?? {})) deps.devices.setFallbackKey(userId, deviceId, key);
  });
  return { one_time_key_counts: deps.devices.oneTimeKeyCounts(userId, deviceId) };
}

function keyList(keys: JsonObject): KeyUpload[] {
  return Object.entries(keys).map(([name, content]) => {
    const colon = name.indexOf(":");
    if (colon < 1) throw invalidParam(`${JSON.stringify(name.slice(0, 80))} is not algorithm:key_id`);
    return { algorithm: name.slice(0, colon), keyId: name.slice(colon + 1), content };
  });
}

async function query(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, querySchema);
  const answer: Record<string, JsonObject> = {
    device_keys: {},
    master_keys: {},
    self_signing_keys: {},
    user_signing_keys: {},
  };
  const put = (field: string, userId: string, value: Json): void => {
    const map = answer[field];
    if (map !== undefined) map[userId] = value;
  };
  for (const [userId, wanted] of Object.entries(body.device_keys)) {
    if (deps.accounts.find(userId) === undefined) continue;
    const found: JsonObject = {};
    for (const [deviceId, keys] of deps.devices.deviceKeys(userId)) {
      if (wanted.length > 0 && !wanted.includes(deviceId)) continue;
      const name = deps.store.device(userId, deviceId)?.display_name;
      found[deviceId] = { ...keys, unsigned: name == null ? {} : { device_display_name: name } };
    }
    put("device_keys", userId, found);
    for (const [usage, key] of deps.devices.crossSigningKeys(userId)) {
      if (usage !== "user_signing" || userId === request.session.userId) put(`${usage}_keys`, userId, key);
    }
  }
  return { ...answer, failures: {} };
}

async function claim(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, claimSchema);
  const claimed: Record<string, Record<string, JsonObject>> = {};
  deps.db.transaction(() => {
    for (const [userId, wanted] of Object.entries(body.one_time_keys)) {
      for (const [deviceId, algorithm] of Object.entries(wanted)) {
        const key = deps.devices.claimKey(userId, deviceId, algorithm);
        if (key === undefined) continue;
        const ofUser = claimed[userId] ?? {};
        ofUser[deviceId] = { [`${algorithm}:${key.keyId}`]: key.content };
        claimed[userId] = ofUser;
      }
    }
  });
  return { one_time_keys: claimed, failures: {} };
}

function changes(deps: Deps, request: AuthedRequest): JsonObject {
  const from = request.query.get("from");
  if (from === null) throw new MatrixError(400, "M_MISSING_PARAM", "Missing query parameter from");
  const { userId } = request.session;
  const changed = deps.devices.listChangesSince(parseToken(from).stream);
  return {
    changed: changed.filter((other) => other === userId || deps.registry.shareRoom(other, userId)),
    left: [],
  };
}

async function uploadCrossSigning(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const json = await request.json();
  const body = parseValue(crossSigningSchema, json);
  const { userId } = request.session;
  if (deps.devices.crossSigningKeys(userId).size > 0) {
    await deps.interactive.require(json, `cross-signing ${userId}`, passwordStage(deps.accounts, userId));
  }
  deps.db.transaction(() => {
    for (const usage of ["master", "self_signing", "user_signing"] as const) {
      const key = body[`${usage}_key`];
      if (key !== undefined) deps.devices.setCrossSigningKey(userId, usage, key);
    }
    deps.db.afterCommit(() => deps.notifier.wakeForDeviceList(userId));
  });
  return {};
}

async function sendToDevice(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, messagesSchema);
  const { userId, deviceId } = request.session;
  const type = param(request, "eventType");
  for (const content of Object.values(body.messages).flatMap((byDevice) => Object.values(byDevice))) {
    if (Buffer.byteLength(JSON.stringify(content)) > EVENT_BYTES_MAX)
      throw tooLarge(`A message to a device is larger than ${EVENT_BYTES_MAX} bytes`);
  }
  const receivers = new Set<string>();
  deps.db.transaction(() => {
    if (!deps.devices.beginTransaction(userId, deviceId, param(request, "txnId"), type)) return;
    for (const [target, byDevice] of Object.entries(body.messages)) {
      const own = deps.store.devices(target).map((device) => device.device_id);
      for (const id of own) {
        const content = objectField(byDevice, id) ?? objectField(byDevice, "*");
        if (content === undefined) continue;
        deps.devices.addMessage(target, id, { type, sender: userId, content });
        receivers.add(target);
      }
    }
  });
  for (const target of receivers) deps.notifier.wake(target);
  return {};
}
