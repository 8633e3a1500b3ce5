/**
 * `/v1/matrix/…`: Matrix in single calls, for programs without a Matrix client (wire facts, section 7.2). Each call is
 * one client-server request and goes through the same gateway and policy as a raw one; it returns the homeserver's answer.
 */
import { BureauError } from "@bureau/kit/errors";
import { jsonObject, parse } from "@bureau/schema/parse";
import * as v from "valibot";
import { AGENT_BODY_BYTES_MAX, readJsonBody } from "./json-body.ts";
import { forwardMatrix } from "./matrix-gateway.ts";
import type { ProxyState } from "./proxy-state.ts";
import { MatrixRefusal } from "./refusal.ts";

type MatrixCall = {
  readonly state: ProxyState;
  readonly request: Request;
  readonly query: URLSearchParams;
  readonly signal: AbortSignal;
};
type Endpoint = (call: MatrixCall) => Promise<Response>;

const content = jsonObject;
/** Optional, our addition: the same transaction sent twice makes one event, so a caller may repeat after a lost answer. */
const transaction = v.optional(v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]{1,128}$/u)));
const StateBody = v.object({
  room: v.string(),
  event_type: v.string(),
  state_key: v.optional(v.string(), ""),
  content,
});
const MessageBody = v.object({ room: v.string(), content, transaction_id: transaction });
const EventBody = v.object({
  room: v.string(),
  event_type: v.string(),
  content,
  transaction_id: transaction,
});
const JoinBody = v.object({ room: v.string() });
const InviteBody = v.object({ room: v.string(), user_id: v.string() });
const PresenceBody = v.object({
  presence: v.picklist(["online", "unavailable", "offline"]),
  status_msg: v.optional(v.string()),
});

/** `GET sync` → its handler. */
export const matrixEndpoints: ReadonlyMap<string, Endpoint> = new Map<string, Endpoint>([
  ["GET whoami", (call) => get(call, ["account", "whoami"])],
  ["GET resolve", (call) => get(call, ["directory", "room", required(call, "alias")])],
  [
    "GET state",
    async (call) =>
      get(call, ["rooms", await roomOf(call), "state", required(call, "type"), call.query.get("key") ?? ""]),
  ],
  ["GET joined-rooms", (call) => get(call, ["joined_rooms"])],
  ["GET room-state", async (call) => get(call, ["rooms", await roomOf(call), "state"])],
  ["GET room-members", async (call) => get(call, ["rooms", await roomOf(call), "members"])],
  ["GET messages", messages],
  ["GET thread-messages", threadMessages],
  ["GET display-name", (call) => get(call, ["profile", required(call, "user"), "displayname"])],
  ["GET sync", (call) => get(call, ["sync"], pick(call, "since", "timeout", "filter"))],
  ["GET presence", (call) => get(call, ["presence", required(call, "user"), "status"])],
  ["POST state", putState],
  ["POST message", sendMessage],
  ["POST event", sendEvent],
  ["POST room", async (call) => send(call, "POST", ["createRoom"], await body(call, content))],
  ["POST join", async (call) => send(call, "POST", ["join", (await body(call, JoinBody)).room], {})],
  ["POST invite", invite],
  ["POST presence", setPresence],
]);

async function messages(call: MatrixCall): Promise<Response> {
  const query = pick(call, "from", "dir", "limit");
  if (!query.has("dir")) query.set("dir", "b");
  return get(call, ["rooms", await roomOf(call), "messages"], query);
}

async function threadMessages(call: MatrixCall): Promise<Response> {
  const thread = required(call, "thread");
  const path = ["rooms", await roomOf(call), "relations", thread, "m.thread"];
  return get(call, path, pick(call, "from", "limit"), "v1");
}

async function putState(call: MatrixCall): Promise<Response> {
  const input = await body(call, StateBody);
  const room = await resolveRoom(call, input.room);
  return send(call, "PUT", ["rooms", room, "state", input.event_type, input.state_key], input.content);
}

async function sendMessage(call: MatrixCall): Promise<Response> {
  const input = await body(call, MessageBody);
  return sendTo(call, input.room, "m.room.message", input.content, input.transaction_id);
}

async function sendEvent(call: MatrixCall): Promise<Response> {
  const input = await body(call, EventBody);
  return sendTo(call, input.room, input.event_type, input.content, input.transaction_id);
}

async function sendTo(
  call: MatrixCall,
  address: string,
  type: string,
  eventContent: Readonly<Record<string, unknown>>,
  transactionId: string = crypto.randomUUID(),
): Promise<Response> {
  const room = await resolveRoom(call, address);
  return send(call, "PUT", ["rooms", room, "send", type, transactionId], eventContent);
}

async function invite(call: MatrixCall): Promise<Response> {
  const input = await body(call, InviteBody);
  const room = await resolveRoom(call, input.room);
  return send(call, "POST", ["rooms", room, "invite"], { user_id: input.user_id });
}

async function setPresence(call: MatrixCall): Promise<Response> {
  const input = await body(call, PresenceBody);
  const { userId } = call.state;
  if (userId === undefined)
    throw new BureauError("unauthorized", "Cannot set presence: this proxy has no Matrix user ID");
  return send(call, "PUT", ["presence", userId, "status"], input);
}

const get = (
  call: MatrixCall,
  segments: readonly string[],
  query: URLSearchParams = new URLSearchParams(),
  version = "v3",
): Promise<Response> => request(call, "GET", segments, query, null, version);

const send = (
  call: MatrixCall,
  method: "POST" | "PUT",
  segments: readonly string[],
  json: unknown,
): Promise<Response> => request(call, method, segments, new URLSearchParams(), JSON.stringify(json), "v3");

function request(
  call: MatrixCall,
  method: string,
  segments: readonly string[],
  query: URLSearchParams,
  json: string | null,
  version: string,
): Promise<Response> {
  // Leaves out an empty state key, which is always last, with its slash: both spellings mean the same.
  const named = segments.at(-1) === "" ? segments.slice(0, -1) : segments;
  const path = `/_matrix/client/${version}/${named.map(encodeURIComponent).join("/")}`;
  const headers = new Headers(json === null ? {} : { "content-type": "application/json" });
  return forwardMatrix(
    call.state,
    { path, query: query.toString() },
    { method, headers, body: json },
    call.signal,
  );
}

async function body<const Schema extends v.GenericSchema>(
  call: MatrixCall,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  return parse(schema, await readJsonBody(call.request, AGENT_BODY_BYTES_MAX), "request body");
}

function required(call: MatrixCall, name: string): string {
  const value = call.query.get(name) ?? "";
  if (value === "") throw new BureauError("invalid-input", `missing query parameter "${name}"`);
  return value;
}

function pick(call: MatrixCall, ...names: string[]): URLSearchParams {
  const picked = new URLSearchParams();
  for (const name of names) {
    const value = call.query.get(name);
    if (value !== null && value !== "") picked.set(name, value);
  }
  return picked;
}

const roomOf = (call: MatrixCall): Promise<string> => resolveRoom(call, required(call, "room"));

const ResolvedRoom = v.object({ room_id: v.string() });
const MatrixError = v.object({ errcode: v.string(), error: v.optional(v.string(), "") });

/** The room ID of an alias; returns a room ID unchanged. @throws MatrixRefusal 502 with the homeserver's errcode */
async function resolveRoom(call: MatrixCall, room: string): Promise<string> {
  if (!room.startsWith("#")) return room;
  const response = await get(call, ["directory", "room", room]);
  const answer: unknown = await response.json().catch(() => undefined);
  const found = v.safeParse(ResolvedRoom, answer);
  if (response.ok && found.success) return found.output.room_id;
  const refused = v.safeParse(MatrixError, answer);
  throw new MatrixRefusal(
    "unavailable",
    refused.success ? refused.output.errcode : "M_UNKNOWN",
    `Cannot resolve the room alias "${room}": ${refused.success ? refused.output.error : `status ${response.status}`}`,
  );
}
