/**
 * Mints the tokens of this machine, and revokes them at once (wire facts, sections 6.4 and 6.5). What a token grants is what
 * the policies grant its subject in the namespace of the role, never more, and never longer.
 *
 * A service forgets revocations when it restarts, so they are delivered again to its new socket until the tokens expire.
 */
import type { Clock } from "@bureau/kit/clock";
import { signRevocation, signToken } from "@bureau/kit/signed-message";
import type { Ed25519Key } from "@bureau/os/ed25519";
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import type { ServerName, UserId } from "@bureau/schema/refs";
import { type RevokedToken, roleGrants, TOKEN_SECONDS } from "@bureau/schema/service-token";

export type TokenMintDeps = {
  readonly key: Ed25519Key;
  readonly machine: UserId;
  readonly server: ServerName;
  readonly clock: Clock;
  /** Everything that applies to a user now. */
  readonly policyOf: (user: UserId) => AuthorizationPolicy;
};

export type MintedToken = {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly id: string;
  /** Seconds since the epoch. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  /** Equal text, equal grants. */
  readonly grants: string;
};

export class TokenMint {
  readonly #deps: TokenMintDeps;

  constructor(deps: TokenMintDeps) {
    this.#deps = deps;
  }

  mint(subject: UserId, role: string, project?: string): MintedToken {
    const { key, machine, clock } = this.#deps;
    const { grants, endsAtMs } = this.#granted(subject, role);
    const issuedAt = Math.floor(clock.now() / 1_000);
    // A grant that ends sooner ends the whole token; the next one is without it.
    const ends = endsAtMs === undefined ? Number.POSITIVE_INFINITY : Math.floor(endsAtMs / 1_000);
    const expiresAt = Math.min(issuedAt + TOKEN_SECONDS, ends);
    const id = crypto.getRandomValues(new Uint8Array(16)).toHex();
    const token = { subject, machine, audience: role, grants, id, issuedAt, expiresAt, project };
    return { bytes: signToken(token, key.sign), id, issuedAt, expiresAt, grants: JSON.stringify(grants) };
  }

  /** The grants that a token would carry now, as {@link MintedToken.grants}. */
  grantsNow(subject: UserId, role: string): string {
    return JSON.stringify(this.#granted(subject, role).grants);
  }

  revocation(entries: readonly RevokedToken[]): Uint8Array {
    return signRevocation(entries, Math.floor(this.#deps.clock.now() / 1_000), this.#deps.key.sign);
  }

  #granted(subject: UserId, role: string) {
    const { policyOf, server, clock } = this.#deps;
    return roleGrants(policyOf(subject), role, server, clock.now());
  }
}
