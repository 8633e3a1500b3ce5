/** The admin sockets of this machine's proxies (wire facts, section 7.3): where changed grants are pushed, and refusals collected. */
import { BureauError, messageOf } from "@bureau/kit/errors";
import { viaSocket } from "@bureau/os/egress";
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import type { Grant } from "@bureau/schema/authorization";
import { parseJson } from "@bureau/schema/parse";
import { type RefusalBatch, RefusalBatchSchema } from "@bureau/schema/proxy-wire";
import type { FleetLocalpart, PrincipalName } from "@bureau/schema/refs";

/** Time for one request (wire facts, section 12.1). */
const CALL_MS_MAX = 10_000;

export type ProxyAdmin = {
  /** Replaces all grants of a principal's proxy. @throws BureauError */
  putGrants(account: PrincipalName, grants: readonly Grant[]): Promise<void>;
  /** What the proxy refused since the last batch that was dropped. @throws BureauError `not-found` by an earlier build */
  refusals(account: PrincipalName): Promise<RefusalBatch>;
  /** The batch is recorded. @throws BureauError */
  dropRefusals(account: PrincipalName, batch: string): Promise<void>;
};

export function openProxyAdmin(layout: Layout, fleet: FleetLocalpart): ProxyAdmin {
  const call = (account: PrincipalName, act: string, method: string, path: string, body?: unknown) =>
    callProxy(sandboxPaths(layout, fleet, account).adminSocket, act, method, path, body);
  return {
    async putGrants(account, grants) {
      await call(account, `Cannot push grants to the proxy of "${account}"`, "PUT", "authorization", grants);
    },
    async refusals(account) {
      const act = `Cannot ask the proxy of "${account}" what it refused`;
      return parseJson(RefusalBatchSchema, await call(account, act, "GET", "refusals"), "refusals");
    },
    async dropRefusals(account, batch) {
      const act = `Cannot tell the proxy of "${account}" that its refusals are recorded`;
      await call(account, act, "DELETE", `refusals/${batch}`);
    },
  };
}

async function callProxy(
  unix: string,
  act: string,
  method: string,
  path: string,
  body: unknown,
): Promise<string> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(`http://localhost/v1/admin/${path}`, {
      ...viaSocket(unix),
      method,
      headers: { "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_MS_MAX),
    });
    text = await response.text();
  } catch (error) {
    throw new BureauError("unavailable", act, { cause: messageOf(error) });
  }
  if (!response.ok)
    throw new BureauError(
      response.status === 404 ? "not-found" : "failed",
      `${act}: it answered ${response.status}`,
    );
  return text;
}
