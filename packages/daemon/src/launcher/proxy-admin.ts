/** The admin sockets of this machine's proxies (wire facts, section 7.3): where changed grants and the directory are pushed, and refusals collected. */
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { viaSocket } from "@bureau/os/egress";
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import type { Grant } from "@bureau/schema/authorization";
import { parseJson } from "@bureau/schema/parse";
import { type DirectoryEntry, type RefusalBatch, RefusalBatchSchema } from "@bureau/schema/proxy-wire";
import type { FleetLocalpart, PrincipalName } from "@bureau/schema/refs";
import * as v from "valibot";

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

/** What a proxy tells of the fleet's services, and its routes to them. */
export type ProxyDirectory = {
  /** @throws BureauError, as all of them */
  putDirectory(account: PrincipalName, entries: readonly DirectoryEntry[]): Promise<void>;
  /** Names of every upstream it has, also those of its template. */
  upstreams(account: PrincipalName): Promise<string[]>;
  putUpstream(account: PrincipalName, name: string, socket: string): Promise<void>;
  removeUpstream(account: PrincipalName, name: string): Promise<void>;
};

const UpstreamsSchema = v.array(v.object({ name: v.string() }));
const upstreamPath = (name: string): string => `services/${encodeURIComponent(name)}`;

export function openProxyAdmin(layout: Layout, fleet: FleetLocalpart): ProxyAdmin & ProxyDirectory {
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
    async putDirectory(account, entries) {
      const act = `Cannot push the directory of services to the proxy of "${account}"`;
      await call(account, act, "PUT", "directory", entries);
    },
    async upstreams(account) {
      const act = `Cannot list the upstreams of the proxy of "${account}"`;
      const text = await call(account, act, "GET", "services");
      return parseJson(UpstreamsSchema, text, "upstreams of a proxy").map(({ name }) => name);
    },
    async putUpstream(account, name, socket) {
      const upstream = { upstream_url: "http://localhost", upstream_unix: socket };
      const act = `Cannot give the proxy of "${account}" a route to a service`;
      await call(account, act, "PUT", upstreamPath(name), upstream);
    },
    async removeUpstream(account, name) {
      const act = `Cannot take a route to a service from the proxy of "${account}"`;
      try {
        await call(account, act, "DELETE", upstreamPath(name));
      } catch (error) {
        if (!isBureauError(error) || error.code !== "not-found") throw error;
      }
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
