/**
 * The one place that decides what a person or an agent may do on this machine: it asks the index that follows from the
 * rooms. While no configuration is known, everything is denied.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Decision } from "@bureau/schema/authorization";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import type { UserId } from "@bureau/schema/refs";

/** May `actor` do `action` to `target`, or without a target when undefined? */
export type Authorize = (actor: UserId, action: string, target: UserId | undefined) => Decision;

const denyAll = new AuthorizationIndex([]);

/** `index` is the current one; undefined while no configuration is known. */
export const authorizeBy =
  (index: () => AuthorizationIndex | undefined, clock: Clock): Authorize =>
  (actor, action, target) =>
    (index() ?? denyAll).authorize(actor, action, target, clock.now());
