/** Who may do what on this machine. */
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { subsystem } from "../assembly/subsystem.ts";
import { type Authorize, authorizeBy, type Enforce, enforceBy } from "../authorization/authorize.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import type { Audit } from "./audit.ts";

export type Authorization = {
  readonly authorize: Authorize;
  readonly enforce: Enforce;
  /** Undefined while no configuration is known. */
  readonly index: () => AuthorizationIndex | undefined;
};

type Needs = { readonly desired: DesiredSource; readonly audit: Audit };

export const authorization = subsystem({
  name: "authorization",
  needs: { desired: true, audit: true },
  start({ desired, audit }: Needs, { clock }) {
    const index = () => desired.latest?.authorization;
    const authorize = authorizeBy(index, clock);
    const enforce = enforceBy(authorize, audit.record);
    const part: Authorization = { authorize, enforce, index };
    return {
      part,
      views: {
        authorization: () => ({
          known: index() !== undefined,
          policies: Object.fromEntries((index()?.users ?? []).map((user) => [user, index()?.policyOf(user)])),
        }),
      },
    };
  },
});
