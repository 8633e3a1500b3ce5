/** Who may do what on this machine. */
import { subsystem } from "../assembly/subsystem.ts";
import { type Authorize, authorizeBy, type Enforce, enforceBy } from "../authorization/authorize.ts";
import type { DesiredSource } from "../desired/desired-source.ts";

export type Authorization = { readonly authorize: Authorize; readonly enforce: Enforce };

export const authorization = subsystem({
  name: "authorization",
  needs: { desired: true },
  start({ desired }: { desired: DesiredSource }, { clock, log }) {
    const index = () => desired.latest?.authorization;
    const authorize = authorizeBy(index, clock);
    const enforce = enforceBy(authorize, ({ decision, ...act }) => {
      if (!decision.allowed) log.info("authorization.denied", decision.reason, act);
    });
    const part: Authorization = { authorize, enforce };
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
