/** Who may do what on this machine. */
import { subsystem } from "../assembly/subsystem.ts";
import { type Authorize, authorizeBy } from "../authorization/authorize.ts";
import type { DesiredSource } from "../desired/desired-source.ts";

export const authorization = subsystem({
  name: "authorization",
  needs: { desired: true },
  start({ desired }: { desired: DesiredSource }, { clock }) {
    const index = () => desired.latest?.authorization;
    const part: Authorize = authorizeBy(index, clock);
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
