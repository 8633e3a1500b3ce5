/** Reads one entry of the machine's configuration. Names the principal of an unusable entry too, where it can. */
import { assignedUser } from "@bureau/schema/assigned-user";
import { type PrincipalAssignment, PrincipalAssignmentSchema } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import {
  fleetOf,
  type PrincipalName,
  parseUserId,
  principalNameOf,
  principalOfUser,
  serverOf,
  type UserId,
} from "@bureau/schema/refs";
import type { Place } from "./snapshot.ts";

export type AssignmentEntry = {
  readonly identity?: { readonly account: PrincipalName; readonly userId: UserId };
  /** Absent when it is unusable. */
  readonly assignment?: PrincipalAssignment;
  /** The fault, as a sentence about the entry at `where`. */
  readonly fault?: (where: string) => string;
};

export function readAssignment(raw: unknown, place: Place): AssignmentEntry {
  let fault: AssignmentEntry["fault"];
  let assignment: PrincipalAssignment | undefined;
  try {
    assignment = parse(PrincipalAssignmentSchema, raw, "assignment");
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    fault = (where) => new InputError(where, error.faults).message;
  }
  const userId = assignment?.principal ?? claimedUser(raw);
  if (userId === undefined) return { fault: fault ?? ((where) => `${where} names no principal`) };
  let account: PrincipalName;
  try {
    const principal = principalOfUser(userId);
    if (fleetOf(principal) !== fleetOf(place.machine) || serverOf(userId) !== place.server)
      return { fault: (where) => `${where}: ${userId} does not belong to the fleet of this machine` };
    account = principalNameOf(principal);
    if (Buffer.byteLength(principal) > place.localpartBytesMax)
      return {
        identity: { account, userId },
        fault: (where) =>
          `${where}: the name of ${userId} has more than the ${place.localpartBytesMax} bytes that fit a socket path here`,
      };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { fault: fault ?? ((where) => `${where}: ${reason}`) };
  }
  const identity = { account, userId };
  if (fault !== undefined) return { identity, fault };
  return assignment === undefined ? { identity } : { identity, assignment };
}

function claimedUser(raw: unknown): UserId | undefined {
  const user = assignedUser(raw);
  try {
    return user === undefined ? undefined : parseUserId(user);
  } catch {
    return undefined;
  }
}
