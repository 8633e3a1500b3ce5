/** Users and patterns of users, as people type them: `demo`, `agent/demo`, `@ann`, `@ann:example.org`, `agent/**`. */
import { BureauError } from "@bureau/kit/errors";
import {
  fleetOf,
  type MachineLocalpart,
  parseUserId,
  type ServerName,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import { principalOf } from "./operator.ts";

/** A principal of the machine's fleet, or a person after `@`. */
export function typedUser(machine: MachineLocalpart, server: ServerName, typed: string): UserId {
  if (typed.startsWith("@")) return parseUserId(typed.includes(":") ? typed : `${typed}:${server}`);
  return userIdOf(principalOf(machine, typed), server);
}

/** The shortest form that {@link typedUser} reads as a user ID of this server; other text stays as it is. */
export function asTypedUser(machine: MachineLocalpart, user: string): string {
  const prefix = `@${fleetOf(machine)}/`;
  return user.startsWith(prefix) ? user.slice(prefix.length).replace(/:.*$/u, "") : user;
}

/** The wire's pattern, `localpart-glob:server-glob`. Without a server it is of this one, and a principal of this fleet. */
export function typedPattern(machine: MachineLocalpart, server: ServerName, typed: string): string {
  if (typed === "**") return "**:*";
  if (!/[*?[]/u.test(typed)) return typedUser(machine, server, typed).slice(1);
  const pattern = typed.startsWith("@") ? typed.slice(1) : typed;
  if (pattern.includes(":")) return pattern;
  return typed.startsWith("@") ? `${pattern}:${server}` : `${fleetOf(machine)}/${pattern}:${server}`;
}

/** @throws BureauError `invalid-input` */
export function typedAction(typed: string): string {
  if (/^[^\s/]+(\/[^\s/]+)*$/u.test(typed)) return typed;
  throw new BureauError("invalid-input", `"${typed}" is not an action`, {
    hint: "an action is words with slashes between them, such as interrupt or observe/read-write",
  });
}
