/** The admin sockets of this machine's proxies (wire facts, section 7.3): where changed grants are pushed. */
import { BureauError, messageOf } from "@bureau/kit/errors";
import { viaSocket } from "@bureau/os/egress";
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import type { Grant } from "@bureau/schema/authorization";
import type { FleetLocalpart, PrincipalName } from "@bureau/schema/refs";

/** Time for one request (wire facts, section 12.1). */
const CALL_MS_MAX = 10_000;

export type ProxyAdmin = {
  /** Replaces all grants of a principal's proxy. @throws BureauError */
  putGrants(account: PrincipalName, grants: readonly Grant[]): Promise<void>;
};

export function openProxyAdmin(layout: Layout, fleet: FleetLocalpart): ProxyAdmin {
  return {
    async putGrants(account, grants) {
      const unix = sandboxPaths(layout, fleet, account).adminSocket;
      const act = `Cannot push grants to the proxy of "${account}"`;
      let response: Response;
      try {
        response = await fetch("http://localhost/v1/admin/authorization", {
          ...viaSocket(unix),
          method: "PUT",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(grants),
          signal: AbortSignal.timeout(CALL_MS_MAX),
        });
        await response.arrayBuffer();
      } catch (error) {
        throw new BureauError("unavailable", act, { cause: messageOf(error) });
      }
      if (!response.ok) throw new BureauError("failed", `${act}: it answered ${response.status}`);
    },
  };
}
