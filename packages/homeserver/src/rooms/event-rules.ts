/**
 * The authorization rules of room versions 10 and 11, applied to a new event against the room's current state.
 * Pure: denies by throwing M_FORBIDDEN with a sentence that names the level or membership that was missing.
 */
import { badJson, forbidden, invalidParam } from "../http/matrix-error.ts";
import { checkPowerLevelsChange, checkPowerLevelsShape, type PowerAction } from "./power-levels.ts";
import { isJsonObject, type Json, type JsonObject, stringField } from "./room-event.ts";
import type { RoomState } from "./room-state.ts";

export type Candidate = {
  readonly type: string;
  readonly stateKey: string | null;
  readonly sender: string;
  readonly content: JsonObject;
};

/** Whether a user is joined to another room, for restricted joins. */
export type IsJoined = (roomId: string, userId: string) => boolean;

/** Throws unless `event` may follow `state`. The writer itself checks the create event. */
export function authorizeEvent(state: RoomState, event: Candidate, isJoined: IsJoined): void {
  if (event.type === "m.room.create") throw forbidden("A room has exactly one m.room.create event");
  if (event.type === "m.room.member") authorizeMembership(state, event, isJoined);
  else authorizeByLevel(state, event);
}

function authorizeByLevel(state: RoomState, event: Candidate): void {
  requireJoined(state, event.sender);
  const levels = state.powerLevels();
  const own = levels.ofUser(event.sender);
  const needed = levels.toSend(event.type, event.stateKey !== null);
  if (own < needed) {
    throw forbidden(`You need power level ${needed} to send ${event.type} in this room; you have ${own}`);
  }
  if (event.stateKey?.startsWith("@") && event.stateKey !== event.sender) {
    throw forbidden(`Only ${event.stateKey} may send ${event.type} with that state key`);
  }
  if (event.type === "m.room.power_levels") {
    checkPowerLevelsShape(event.content);
    const before = state.get("m.room.power_levels", "")?.content;
    if (before !== undefined) checkPowerLevelsChange(before, event.content, event.sender, own);
  }
}

/** Throws M_FORBIDDEN unless `userId` is joined. */
export function requireJoined(state: RoomState, userId: string): void {
  if (state.membership(userId) !== "join") throw forbidden(`${userId} is not joined to room ${state.roomId}`);
}

const memberships = new Set<Json>(["invite", "join", "knock", "leave", "ban"]);

function authorizeMembership(state: RoomState, event: Candidate, isJoined: IsJoined): void {
  const target = event.stateKey;
  if (target === null || !/^@[^:]*:.+$/.test(target))
    throw invalidParam("The state key of m.room.member is a user ID");
  const wanted = event.content["membership"] ?? null;
  if (!memberships.has(wanted)) throw badJson("membership must be invite, join, knock, leave or ban");
  const self = event.sender === target;
  if (wanted === "join") authorizeJoin(state, event, target, isJoined);
  else if (wanted === "invite") authorizeInvite(state, event.sender, target);
  else if (wanted === "knock") authorizeKnock(state, self, target);
  else if (wanted === "leave" && self) authorizeOwnLeave(state, target);
  else if (wanted === "leave") authorizeKick(state, event.sender, target);
  else authorizeBan(state, event.sender, target);
}

function authorizeJoin(state: RoomState, event: Candidate, target: string, isJoined: IsJoined): void {
  if (event.sender !== target) throw forbidden(`Only ${target} can make themselves join`);
  const before = state.membership(target);
  if (before === "ban") throw forbidden(`${target} is banned from this room`);
  if (before === "join" || before === "invite") return;
  if (state.size === 1 && state.creator === target) return;
  const rules = state.get("m.room.join_rules", "")?.content ?? {};
  const rule = stringField(rules, "join_rule") ?? "invite";
  if (rule === "public") return;
  if (rule === "restricted" || rule === "knock_restricted") {
    if (allowedRooms(rules).some((roomId) => isJoined(roomId, target))) return;
    throw forbidden("You are in none of the rooms whose members may join this room, and have no invite");
  }
  throw forbidden("You are not invited to this room");
}

function allowedRooms(joinRules: JsonObject): string[] {
  const allow = joinRules["allow"];
  if (!Array.isArray(allow)) return [];
  return allow.flatMap((entry) => {
    if (!isJsonObject(entry) || entry["type"] !== "m.room_membership") return [];
    return stringField(entry, "room_id") ?? [];
  });
}

function authorizeInvite(state: RoomState, sender: string, target: string): void {
  requireJoined(state, sender);
  const before = state.membership(target);
  if (before === "join") throw forbidden(`${target} is already in the room`);
  if (before === "ban") throw forbidden(`${target} is banned from this room`);
  requirePower(state, sender, "invite");
}

function authorizeKnock(state: RoomState, self: boolean, target: string): void {
  const rule = stringField(state.get("m.room.join_rules", "")?.content ?? {}, "join_rule");
  if (rule !== "knock" && rule !== "knock_restricted") throw forbidden("This room does not accept knocks");
  if (!self) throw forbidden(`Only ${target} can knock for themselves`);
  const before = state.membership(target);
  if (before === "ban") throw forbidden(`${target} is banned from this room`);
  if (before === "join" || before === "invite")
    throw forbidden(`${target} is already in the room or invited`);
}

function authorizeOwnLeave(state: RoomState, target: string): void {
  const before = state.membership(target);
  if (before === "join" || before === "invite" || before === "knock") return;
  throw forbidden(`${target} is not in the room`);
}

function authorizeKick(state: RoomState, sender: string, target: string): void {
  requireJoined(state, sender);
  const before = state.membership(target);
  if (before === "ban") requirePower(state, sender, "ban");
  else if (before === undefined || before === "leave") throw forbidden(`${target} is not in the room`);
  requirePowerOver(state, sender, target, "kick");
}

function authorizeBan(state: RoomState, sender: string, target: string): void {
  requireJoined(state, sender);
  requirePowerOver(state, sender, target, "ban");
}

function requirePower(state: RoomState, sender: string, action: PowerAction): void {
  const levels = state.powerLevels();
  const [own, needed] = [levels.ofUser(sender), levels.toAct(action)];
  if (own < needed)
    throw forbidden(`You need power level ${needed} to ${action} in this room; you have ${own}`);
}

function requirePowerOver(state: RoomState, sender: string, target: string, action: "kick" | "ban"): void {
  requirePower(state, sender, action);
  const levels = state.powerLevels();
  const [own, theirs] = [levels.ofUser(sender), levels.ofUser(target)];
  if (theirs >= own) {
    throw forbidden(`You need a power level above ${theirs} to ${action} ${target}; you have ${own}`);
  }
}
