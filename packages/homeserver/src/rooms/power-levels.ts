/** Reading an m.room.power_levels content, with the defaults of the specification, and the rules for changing one. */
import { badJson, forbidden } from "../http/matrix-error.ts";
import { isJsonObject, type JsonObject, objectField } from "./room-event.ts";

/** The level of the creator while the room has no power levels event. */
const CREATOR_LEVEL = 100;
const scalarKeys = [
  "users_default",
  "events_default",
  "state_default",
  "ban",
  "kick",
  "redact",
  "invite",
] as const;
const actionDefaults = { ban: 50, kick: 50, redact: 50, invite: 0 } as const;
export type PowerAction = keyof typeof actionDefaults;

export class PowerLevels {
  readonly #content: JsonObject | undefined;
  readonly #creator: string;

  constructor(content: JsonObject | undefined, creator: string) {
    this.#content = content;
    this.#creator = creator;
  }

  ofUser(userId: string): number {
    if (this.#content === undefined) return userId === this.#creator ? CREATOR_LEVEL : 0;
    return (
      levelIn(objectField(this.#content, "users"), userId) ?? levelIn(this.#content, "users_default") ?? 0
    );
  }

  /** The level that sending needs. Without a power levels event everything needs 0. */
  toSend(type: string, isState: boolean): number {
    if (this.#content === undefined) return 0;
    const own = levelIn(objectField(this.#content, "events"), type);
    if (own !== undefined) return own;
    return isState
      ? (levelIn(this.#content, "state_default") ?? 50)
      : (levelIn(this.#content, "events_default") ?? 0);
  }

  toAct(action: PowerAction): number {
    return levelIn(this.#content, action) ?? actionDefaults[action];
  }
}

/** Checks the shape of a power levels content: integers everywhere (room version 10 and later). */
export function checkPowerLevelsShape(content: JsonObject): void {
  for (const key of scalarKeys) checkLevel(content, key, key);
  for (const key of ["events", "users", "notifications"]) {
    if (!Object.hasOwn(content, key)) continue;
    const map = content[key];
    if (!isJsonObject(map)) throw badJson(`${key} in m.room.power_levels must be an object`);
    for (const inner of Object.keys(map)) {
      if (key === "users" && !/^@[^:]*:.+$/.test(inner))
        throw badJson(`${JSON.stringify(inner)} in users is not a user ID`);
      checkLevel(map, inner, `${key}.${inner}`);
    }
  }
}

/** The authorization rule for replacing `before` with `after`: a user changes and grants no level above their own. */
export function checkPowerLevelsChange(
  before: JsonObject,
  after: JsonObject,
  sender: string,
  own: number,
): void {
  const check = (where: string, from: number | undefined, to: number | undefined, strict: boolean): void => {
    if (from === to) return;
    const isOwn = strict && where === `users.${sender}`;
    if (from !== undefined && !isOwn && (strict ? from >= own : from > own)) {
      throw forbidden(`You need a power level above ${from} to change ${where}; you have ${own}`);
    }
    if (to !== undefined && to > own)
      throw forbidden(`You cannot set ${where} to ${to}: you have power level ${own}`);
  };
  for (const key of scalarKeys) check(key, levelIn(before, key), levelIn(after, key), false);
  for (const map of ["events", "notifications", "users"]) {
    const [from, to] = [objectField(before, map), objectField(after, map)];
    for (const key of new Set([...Object.keys(from ?? {}), ...Object.keys(to ?? {})])) {
      check(`${map}.${key}`, levelIn(from, key), levelIn(to, key), map === "users");
    }
  }
}

function levelIn(content: JsonObject | undefined, key: string): number | undefined {
  if (content === undefined || !Object.hasOwn(content, key)) return undefined;
  const value = content[key];
  return Number.isSafeInteger(value) ? (value as number) : undefined;
}

function checkLevel(content: JsonObject, key: string, where: string): void {
  if (!Object.hasOwn(content, key)) return;
  if (!Number.isSafeInteger(content[key]))
    throw badJson(`${where} in m.room.power_levels must be an integer`);
}
