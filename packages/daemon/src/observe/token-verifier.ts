/** Whose Matrix token is this? Asked at the homeserver, and remembered for five minutes by the token's hash only. */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { isRevoked } from "@bureau/matrix/matrix-error";
import { MatrixSession } from "@bureau/matrix/session";
import { sha256Hex } from "@bureau/os/digest";
import { egressFetch } from "@bureau/os/egress";
import type { UserId } from "@bureau/schema/refs";

/** Wire facts, section 12.1. */
const REMEMBERED_MS = 300_000;
const REMEMBERED_MAX = 1_000;
/** Asking the homeserver (wire facts, section 8.1). */
const ASK_MS_MAX = 10_000;

export type TokenVerifier = {
  /** @throws BureauError `unauthorized` when the homeserver does not know it, `unavailable` when the homeserver is unreachable */
  verify(token: string): Promise<UserId>;
};

export function createTokenVerifier(homeserver: string, machine: UserId, clock: Clock): TokenVerifier {
  const known = new Map<string, { readonly user: UserId; readonly until: number }>();
  return {
    async verify(token) {
      const hash = sha256Hex(token);
      const hit = known.get(hash);
      if (hit !== undefined && clock.monotonic() < hit.until) return hit.user;
      known.delete(hash);
      let user: UserId;
      try {
        // The session is the caller's for this one question; it names us only until the homeserver has answered.
        const session = new MatrixSession({ homeserver, fetch: egressFetch, userId: machine, token });
        user = (await session.whoami(AbortSignal.timeout(ASK_MS_MAX))).userId;
      } catch (error) {
        if (!isRevoked(error)) throw error;
        throw new BureauError("unauthorized", "The homeserver does not know this access token", {
          hint: "log in again: bureau login",
        });
      }
      const oldest = known.size >= REMEMBERED_MAX ? known.keys().next().value : undefined;
      if (oldest !== undefined) known.delete(oldest);
      known.set(hash, { user, until: clock.monotonic() + REMEMBERED_MS });
      return user;
    },
  };
}
