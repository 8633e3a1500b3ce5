/**
 * The token of a person who calls a service of this machine from outside a sandbox (wire facts, section 8.1). The role is
 * resolved by the config room alone: a person has no workspace.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Decision } from "@bureau/schema/authorization";
import type { ServiceTokenReply } from "@bureau/schema/observe-wire";
import type { PrincipalName, UserId } from "@bureau/schema/refs";
import { parseServiceRole } from "@bureau/schema/service-requirement";
import type { ServicesOutcome } from "../desired/resolve-services.ts";
import type { TokenMint } from "./token-mint.ts";

export type OperatorTokenDeps = {
  readonly mint: Pick<TokenMint, "mint" | "grantsNow">;
  /** What answers a role, by the config room and the service directory. */
  readonly resolve: (role: string) => ServicesOutcome;
  readonly socketOf: (provider: PrincipalName) => string;
  /** Records the decision. @throws BureauError `forbidden` */
  readonly enforce: (actor: UserId, action: string, target: undefined, point: string) => Decision;
};

/** @throws BureauError `forbidden` for a person without any grant for the role, `not-found` when nothing answers it here */
export function operatorToken(deps: OperatorTokenDeps, actor: UserId, typed: string): ServiceTokenReply {
  const role = parseServiceRole(typed);
  // A token without grants permits nothing: the denial is said and recorded here.
  if (deps.mint.grantsNow(actor, role) === "[]") deps.enforce(actor, role, undefined, "daemon/mint");
  const { services, missing, fault } = deps.resolve(role);
  const [found] = services;
  if (found === undefined)
    throw new BureauError(
      "not-found",
      `Nothing answers "${role}": waiting ${missing ?? fault ?? "for a service"}`,
      {
        hint: `bureau service bind ${role} service/NAME`,
      },
    );
  const { bytes, issuedAt, expiresAt } = deps.mint.mint(actor, role);
  return {
    ok: true,
    token: Buffer.from(bytes).toString("base64"),
    socket_path: deps.socketOf(found.provider),
    ttl_seconds: expiresAt - issuedAt,
    expires_at: expiresAt,
  };
}
