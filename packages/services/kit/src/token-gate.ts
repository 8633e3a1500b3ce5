/**
 * Who calls an action, and whether the caller may: the token of each request is checked with the key that this machine's
 * daemon publishes in the system room. Tokens of other machines have other signatures, and are refused.
 *
 * The key is read from the synced room for every change of it, so a machine with a new key needs no restart of its services.
 */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { checkRevocation, openToken, requireValid, type Verify } from "@bureau/kit/signed-message";
import type { RoomStates } from "@bureau/matrix/room-state";
import { type Action, type ActionContext, action } from "@bureau/os/cbor-server";
import { ed25519Verifier } from "@bureau/os/ed25519";
import { eventTypes } from "@bureau/schema/events";
import { insidePaths } from "@bureau/schema/inside-paths";
import { parse } from "@bureau/schema/parse";
import { localpartOf, type RoomId, stateKeyOf, type UserId } from "@bureau/schema/refs";
import { type ServiceToken, TokenSigningKeySchema, tokenPermits } from "@bureau/schema/service-token";
import {
  type GenericSchema,
  type InferOutput,
  instance,
  looseObject,
  object,
  optional,
  safeParse,
} from "valibot";

/** Revoked tokens that are kept. Each is forgotten when it would have expired. */
const REVOKED_MAX = 100_000;

const SIGNATURE_BYTES = 64;
/** Tokens in use at a time, of at most 64 KiB each. */
const OPENED_MAX = 512;

const WithToken = looseObject({ token: optional(instance(Uint8Array)) });

export type TokenGateDeps = {
  /** The audience of its tokens. */
  readonly role: string;
  readonly machine: UserId;
  readonly systemRoom: RoomId;
  readonly states: RoomStates;
  readonly clock: Clock;
};

/** The caller of an action, as its token names it. */
export type ServiceCaller = {
  readonly user: UserId;
  readonly token: ServiceToken;
  /** May it do `action`, to a principal with this localpart when there is one? @throws BureauError `forbidden` */
  require(action: string, target?: string): void;
};

export class TokenGate {
  readonly #deps: TokenGateDeps;
  /** Token ID → end of the token, in seconds. */
  readonly #revoked = new Map<string, number>();
  /** Tokens whose signature is valid, by it. */
  readonly #opened = new Map<string, { readonly bytes: Buffer; readonly token: ServiceToken }>();
  #key: { readonly hex: string; readonly verify: Verify } | undefined;

  constructor(deps: TokenGateDeps) {
    this.#deps = deps;
  }

  /** An action that only a caller with the grant `needs` may do. */
  granted<const Schema extends GenericSchema>(
    needs: string,
    request: Schema,
    run: (request: InferOutput<Schema>, caller: ServiceCaller, context: ActionContext) => Promise<unknown>,
  ): Action {
    return action(WithToken, async (raw, context) => {
      const caller = this.#callerOf(raw.token);
      caller.require(needs);
      return await run(parse(request, raw, `${needs} request`), caller, context);
    });
  }

  /** What the daemon calls when a sandbox is gone. */
  get revokeTokens(): Action {
    return action(object({ revocation: instance(Uint8Array) }), async ({ revocation }) => {
      const entries = checkRevocation(revocation, this.#verify());
      const now = this.#deps.clock.now() / 1_000;
      for (const [id, expiresAt] of this.#revoked) if (expiresAt <= now) this.#revoked.delete(id);
      if (this.#revoked.size + entries.length > REVOKED_MAX)
        throw new BureauError("too-large", `Cannot revoke more than ${REVOKED_MAX} tokens at a time`);
      for (const { id, expiresAt } of entries) this.#revoked.set(id, expiresAt);
    });
  }

  #callerOf(bytes: Uint8Array | undefined): ServiceCaller {
    if (bytes === undefined)
      throw new BureauError("unauthorized", "authentication required: missing token field", {
        hint: `send the bytes of ${insidePaths.serviceTokens}/${this.#deps.role}.token as "token"`,
      });
    const { role, machine, clock } = this.#deps;
    const token = this.#open(bytes);
    requireValid(token, { audience: role, nowMs: clock.now(), isRevoked: (id) => this.#revoked.has(id) });
    // Only the daemon of this machine has the key; a token that names another machine is not its.
    if (token.machine !== machine) throw new BureauError("unauthorized", "authentication failed");
    return { user: token.subject, token, require: (needs, target) => requireGrant(token, needs, target) };
  }

  /**
   * A caller sends the same bytes until its token is replaced, and the same bytes and key have the same answer. So only the
   * first call with a token costs the arithmetic of its signature.
   */
  #open(bytes: Uint8Array): ServiceToken {
    const verify = this.#verify();
    const name = Buffer.from(bytes.subarray(-SIGNATURE_BYTES)).toString("latin1");
    const known = this.#opened.get(name);
    if (known?.bytes.equals(bytes) === true) return known.token;
    const token = openToken(bytes, verify);
    if (this.#opened.size >= OPENED_MAX) this.#opened.clear();
    this.#opened.set(name, { bytes: Buffer.from(bytes), token });
    return token;
  }

  /** @throws BureauError `unavailable` while the machine has published no key */
  #verify(): Verify {
    const { states, systemRoom, machine } = this.#deps;
    const event = states.room(systemRoom)?.get(eventTypes.tokenSigningKey, stateKeyOf(machine));
    const published = safeParse(TokenSigningKeySchema, event?.content);
    if (!published.success || published.output.machine !== machine)
      throw new BureauError("unavailable", `${machine} has published no key that signs service tokens`, {
        hint: "its daemon publishes the key in the system room when it starts; the service must be a member of that room",
      });
    const hex = published.output.public_key;
    if (this.#key?.hex !== hex) {
      this.#key = { hex, verify: ed25519Verifier(Buffer.from(hex, "hex")) };
      this.#opened.clear();
    }
    return this.#key.verify;
  }
}

function requireGrant(token: ServiceToken, needs: string, target: string | undefined): void {
  if (tokenPermits(token, needs, target)) return;
  const on = target === undefined ? "" : ` on "${target}"`;
  throw new BureauError("forbidden", `access denied: no grant for ${needs}${on}`, {
    hint: `bureau auth check ${localpartOf(token.subject)} ${needs}`,
  });
}
