/** Power levels of users in a room, by its state: the Client-Server API's rules, section m.room.power_levels. */
import * as v from "valibot";
import { PowerLevelsSchema } from "./events.ts";

/** An administrator's level: enough for everything in Bureau's rooms. */
export const ADMIN_LEVEL = 100;
/** The level of moderators in Matrix, and of machines in rooms that they write to. */
export const MODERATOR_LEVEL = 50;

/** From this room version on, creators have all power and power levels do not name them. */
const CREATORS_RULE_FROM = 12;

/** The two events that decide; undefined if the room has none. */
export type PowerEvents = {
  /** Content of `m.room.power_levels`. */
  readonly levels: unknown;
  readonly create:
    | { readonly sender: string; readonly content: Readonly<Record<string, unknown>> }
    | undefined;
};

/** A user's level. Unreadable levels give power only to creators. */
export function powerIn({ levels, create }: PowerEvents): (user: string) => number {
  const creators = create === undefined ? [] : creatorsOf(create);
  if (levels === undefined) return (user) => (user === create?.sender ? ADMIN_LEVEL : 0);
  const parsed = v.safeParse(PowerLevelsSchema, levels);
  return (user) => {
    if (creators.includes(user)) return Number.POSITIVE_INFINITY;
    if (!parsed.success) return 0;
    const { users = {}, users_default = 0 } = parsed.output;
    return Object.hasOwn(users, user) ? (users[user] ?? users_default) : users_default;
  };
}

/** Users who need no level; empty in rooms of earlier versions. */
function creatorsOf({ sender, content }: NonNullable<PowerEvents["create"]>): readonly unknown[] {
  if (!(Number(content["room_version"]) >= CREATORS_RULE_FROM)) return [];
  const others = content["additional_creators"];
  return [sender, ...(Array.isArray(others) ? others : [])];
}
