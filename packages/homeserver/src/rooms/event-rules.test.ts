/** Every rule of event authorization denies what it must, and allows the nearest thing that it may. */
import { expect, test } from "bun:test";
import { MatrixError } from "../http/matrix-error.ts";
import { authorizeEvent, type Candidate } from "./event-rules.ts";
import type { JsonObject, Membership, RoomEvent } from "./room-event.ts";
import { RoomState } from "./room-state.ts";

const [creator, mod, member, invited, banned, stranger] = [
  "creator",
  "mod",
  "member",
  "invited",
  "banned",
  "stranger",
].map((name) => `@${name}:x`) as [string, string, string, string, string, string];

let stream = 0;
const stateEvent = (type: string, stateKey: string, content: JsonObject, sender = creator): RoomEvent => {
  stream += 1;
  const nothing = { replaces: null, redacts: null, redactedBy: null, txnDevice: null, txnId: null };
  return {
    stream,
    eventId: `$${stream}`,
    roomId: "!r:x",
    type,
    stateKey,
    sender,
    content,
    originServerTs: 0,
    ...nothing,
  };
};
const membership = (userId: string, is: Membership): RoomEvent =>
  stateEvent("m.room.member", userId, { membership: is }, userId);

const levels: JsonObject = {
  users: { [creator]: 100, [mod]: 50 },
  users_default: 0,
  events_default: 0,
  state_default: 50,
  events: { "m.room.power_levels": 50, "m.open": 0, "m.closed": 60 },
  invite: 25,
  kick: 50,
  ban: 50,
  redact: 50,
};

function room(
  joinRule = "invite",
  power: JsonObject | undefined = levels,
  extra: RoomEvent[] = [],
): RoomState {
  return new RoomState("!r:x", "11", creator, [
    stateEvent("m.room.create", "", { room_version: "11" }),
    membership(creator, "join"),
    membership(mod, "join"),
    membership(member, "join"),
    membership(invited, "invite"),
    membership(banned, "ban"),
    ...(power === undefined ? [] : [stateEvent("m.room.power_levels", "", power)]),
    stateEvent("m.room.join_rules", "", { join_rule: joinRule }),
    ...extra,
  ]);
}

const verdict = (state: RoomState, event: Candidate, joinedElsewhere: readonly string[] = []): string => {
  try {
    authorizeEvent(state, event, (_roomId, userId) => joinedElsewhere.includes(userId));
    return "allowed";
  } catch (error) {
    if (error instanceof MatrixError) return error.errcode;
    throw error;
  }
};
const member_ = (sender: string, target: string, is: string): Candidate => ({
  type: "m.room.member",
  stateKey: target,
  sender,
  content: { membership: is },
});
const message = (sender: string, type = "m.room.message"): Candidate => ({
  type,
  stateKey: null,
  sender,
  content: {},
});
const state_ = (sender: string, type: string, stateKey = "", content: JsonObject = {}): Candidate => ({
  type,
  stateKey,
  sender,
  content,
});

const cases: [
  name: string,
  state: RoomState,
  event: Candidate,
  wanted: string,
  joinedElsewhere?: string[],
][] = [
  ["a second create event", room(), state_(creator, "m.room.create"), "M_FORBIDDEN"],
  ["a member's message", room(), message(member), "allowed"],
  ["a stranger's message", room(), message(stranger), "M_FORBIDDEN"],
  ["an invited user's message", room(), message(invited), "M_FORBIDDEN"],
  ["a banned user's message", room(), message(banned), "M_FORBIDDEN"],
  ["state below state_default", room(), state_(member, "m.room.topic"), "M_FORBIDDEN"],
  ["state at state_default", room(), state_(mod, "m.room.topic"), "allowed"],
  ["a type that is open to all", room(), state_(member, "m.open"), "allowed"],
  ["a type above one's level", room(), state_(mod, "m.closed"), "M_FORBIDDEN"],
  ["another user's state key", room(), state_(creator, "m.open", member), "M_FORBIDDEN"],
  ["the own user ID as state key", room(), state_(member, "m.open", member), "allowed"],
  ["joining for another user", room("public"), member_(creator, stranger, "join"), "M_FORBIDDEN"],
  ["joining an invite-only room uninvited", room(), member_(stranger, stranger, "join"), "M_FORBIDDEN"],
  ["joining when invited", room(), member_(invited, invited, "join"), "allowed"],
  ["joining a public room", room("public"), member_(stranger, stranger, "join"), "allowed"],
  ["joining when banned", room("public"), member_(banned, banned, "join"), "M_FORBIDDEN"],
  ["joining a private room", room("private"), member_(stranger, stranger, "join"), "M_FORBIDDEN"],
  ["inviting below the level", room(), member_(member, stranger, "invite"), "M_FORBIDDEN"],
  ["inviting at the level", room(), member_(mod, stranger, "invite"), "allowed"],
  ["inviting from outside", room(), member_(stranger, stranger, "invite"), "M_FORBIDDEN"],
  ["inviting who is in", room(), member_(mod, member, "invite"), "M_FORBIDDEN"],
  ["inviting who is banned", room(), member_(mod, banned, "invite"), "M_FORBIDDEN"],
  ["kicking below the level", room(), member_(member, invited, "leave"), "M_FORBIDDEN"],
  ["kicking who stands above", room(), member_(mod, creator, "leave"), "M_FORBIDDEN"],
  ["kicking who stands below", room(), member_(mod, member, "leave"), "allowed"],
  ["kicking who is not there", room(), member_(mod, stranger, "leave"), "M_FORBIDDEN"],
  ["leaving", room(), member_(member, member, "leave"), "allowed"],
  ["refusing an invite", room(), member_(invited, invited, "leave"), "allowed"],
  ["leaving from outside", room(), member_(stranger, stranger, "leave"), "M_FORBIDDEN"],
  ["leaving to undo one's ban", room(), member_(banned, banned, "leave"), "M_FORBIDDEN"],
  ["unbanning below the level", room(), member_(member, banned, "leave"), "M_FORBIDDEN"],
  ["unbanning at the level", room(), member_(mod, banned, "leave"), "allowed"],
  ["banning below the level", room(), member_(member, stranger, "ban"), "M_FORBIDDEN"],
  [
    "banning an equal",
    room("invite", { ...levels, users: { [creator]: 100, [mod]: 50, [member]: 50 } }),
    member_(mod, member, "ban"),
    "M_FORBIDDEN",
  ],
  ["banning a stranger", room(), member_(mod, stranger, "ban"), "allowed"],
  ["banning from outside", room(), member_(stranger, member, "ban"), "M_FORBIDDEN"],
  ["knocking in a room without that join rule", room(), member_(stranger, stranger, "knock"), "M_FORBIDDEN"],
  ["knocking", room("knock"), member_(stranger, stranger, "knock"), "allowed"],
  ["knocking for another", room("knock"), member_(member, stranger, "knock"), "M_FORBIDDEN"],
  ["knocking when in", room("knock"), member_(member, member, "knock"), "M_FORBIDDEN"],
  ["knocking when banned", room("knock"), member_(banned, banned, "knock"), "M_FORBIDDEN"],
  [
    "joining on a knock alone",
    room("knock", levels, [membership(stranger, "knock")]),
    member_(stranger, stranger, "join"),
    "M_FORBIDDEN",
  ],
  ["a membership that does not exist", room(), member_(member, member, "sitting"), "M_BAD_JSON"],
  ["a membership of no user", room(), member_(member, "not-a-user", "join"), "M_INVALID_PARAM"],
];

const allow = [{ type: "m.room_membership", room_id: "!other:x" }];
const restricted = room("restricted", levels, [
  stateEvent("m.room.join_rules", "", { join_rule: "restricted", allow }),
]);
cases.push(
  ["joining a restricted room from nowhere", restricted, member_(stranger, stranger, "join"), "M_FORBIDDEN"],
  [
    "joining a restricted room from the room it names",
    restricted,
    member_(stranger, stranger, "join"),
    "allowed",
    [stranger],
  ],
  [
    "joining a restricted room when banned",
    restricted,
    member_(banned, banned, "join"),
    "M_FORBIDDEN",
    [banned],
  ],
);

const setLevels = (sender: string, change: JsonObject): Candidate =>
  state_(sender, "m.room.power_levels", "", { ...levels, ...change });
const users = levels["users"] as JsonObject;
const events = levels["events"] as JsonObject;
cases.push(
  ["levels from below", room(), setLevels(member, {}), "M_FORBIDDEN"],
  ["levels unchanged", room(), setLevels(mod, {}), "allowed"],
  ["a new user at one's own level", room(), setLevels(mod, { users: { ...users, [member]: 50 } }), "allowed"],
  [
    "a new user above one's own level",
    room(),
    setLevels(mod, { users: { ...users, [member]: 51 } }),
    "M_FORBIDDEN",
  ],
  ["raising oneself", room(), setLevels(mod, { users: { ...users, [mod]: 51 } }), "M_FORBIDDEN"],
  ["lowering oneself", room(), setLevels(mod, { users: { ...users, [mod]: 1 } }), "allowed"],
  ["removing who stands above", room(), setLevels(mod, { users: { [mod]: 50 } }), "M_FORBIDDEN"],
  [
    "removing an equal",
    room("invite", { ...levels, users: { ...users, [member]: 50 } }),
    setLevels(mod, { users }),
    "M_FORBIDDEN",
  ],
  ["an event above one's level", room(), setLevels(mod, { events: { ...events, "m.x": 51 } }), "M_FORBIDDEN"],
  [
    "lowering an event that is above",
    room(),
    setLevels(mod, { events: { ...events, "m.closed": 0 } }),
    "M_FORBIDDEN",
  ],
  [
    "removing an event that is above",
    room(),
    setLevels(mod, { events: { "m.open": 0, "m.room.power_levels": 50 } }),
    "M_FORBIDDEN",
  ],
  ["a default above one's level", room(), setLevels(mod, { state_default: 51 }), "M_FORBIDDEN"],
  [
    "a notification above one's level",
    room(),
    setLevels(mod, { notifications: { room: 51 } }),
    "M_FORBIDDEN",
  ],
  ["a level that is text", room(), setLevels(creator, { ban: "50" }), "M_BAD_JSON"],
  ["a level that is a fraction", room(), setLevels(creator, { users: { [creator]: 99.5 } }), "M_BAD_JSON"],
  ["users that are a list", room(), setLevels(creator, { users: [] }), "M_BAD_JSON"],
  [
    "a level for an invalid user ID",
    room(),
    setLevels(creator, { users: { ...users, unqualified: 1 } }),
    "M_BAD_JSON",
  ],
);

for (const [name, state, event, wanted, joinedElsewhere] of cases) {
  test(`${name}: ${wanted}`, () => {
    expect(verdict(state, event, joinedElsewhere)).toBe(wanted);
  });
}

test("without a power levels event the creator has 100, others 0, and sending needs nothing", () => {
  const open = new RoomState("!r:x", "11", creator, [
    stateEvent("m.room.create", "", {}),
    membership(creator, "join"),
    membership(member, "join"),
  ]);
  expect(verdict(open, state_(member, "m.room.topic"))).toBe("allowed");
  expect(verdict(open, member_(member, creator, "leave"))).toBe("M_FORBIDDEN");
  expect(verdict(open, member_(creator, member, "leave"))).toBe("allowed");
});
