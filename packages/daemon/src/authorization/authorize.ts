/**
 * The one place that decides what a person or an agent may do on this machine: it asks the index that follows from the
 * rooms. While no configuration is known, everything is denied.
 */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { shellWord } from "@bureau/kit/shell-words";
import type { Decision } from "@bureau/schema/authorization";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import type { UserId } from "@bureau/schema/refs";

/** May `actor` do `action` to `target`, or without a target when undefined? Nothing is recorded: for lists and views. */
export type Authorize = (actor: UserId, action: string, target: UserId | undefined) => Decision;

/** An attempted act and its decision: what the audit log records. */
export type DecisionRecord = {
  readonly actor: UserId;
  readonly action: string;
  readonly target: UserId | undefined;
  readonly decision: Decision;
  /** Where it was enforced, for example `daemon/observe` (wire facts, section 4.5). */
  readonly point: string;
};

/**
 * The same for an act that was asked for: records the decision.
 * @throws BureauError `forbidden`, with the reason and the command that explains it, when the act is denied
 */
export type Enforce = (
  actor: UserId,
  action: string,
  target: UserId | undefined,
  point: string,
) => Extract<Decision, { allowed: true }>;

const denyAll = new AuthorizationIndex([]);

/** `index` is the current one; undefined while no configuration is known. */
export const authorizeBy =
  (index: () => AuthorizationIndex | undefined, clock: Clock): Authorize =>
  (actor, action, target) =>
    (index() ?? denyAll).authorize(actor, action, target, clock.now());

export const enforceBy =
  (authorize: Authorize, record: (record: DecisionRecord) => void): Enforce =>
  (actor, action, target, point) => {
    const decision = authorize(actor, action, target);
    record({ actor, action, target, decision, point });
    if (decision.allowed) return decision;
    const words = [actor, action, ...(target === undefined ? [] : [target])].map(shellWord).join(" ");
    throw new BureauError(
      "forbidden",
      `${actor} may not do "${action}"${target === undefined ? "" : ` to ${target}`}: ${decision.reason}`,
      { hint: `bureau auth check ${words}` },
    );
  };
