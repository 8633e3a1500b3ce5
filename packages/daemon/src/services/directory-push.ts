/**
 * Tells each proxy which services its principal may discover, and gives it a route `/http/<service>/` to those of this
 * machine that speak HTTP. A principal without a grant `service/discover` costs nothing, and its proxy is told nothing.
 *
 * A proxy keeps nothing when it restarts, so a new process of it is told again.
 */
import type { Log } from "@bureau/kit/log";
import { grantedTargets } from "@bureau/schema/authorization";
import { anyGlobMatches } from "@bureau/schema/glob";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { DirectoryEntry } from "@bureau/schema/proxy-wire";
import { type PrincipalName, sanitised, type UserId } from "@bureau/schema/refs";
import type { Desired } from "../desired/desired.ts";
import type { ProxyDirectory } from "../launcher/proxy-admin.ts";

const HTTP_ENDPOINT = "http";
const AT_ONCE = 8;
const RETRY_MS = 5_000;
const IDLE_MS = 300_000;

export type DirectoryPushDeps = {
  readonly proxies: ProxyDirectory;
  readonly machine: UserId;
  readonly now: () => number;
  readonly entries: () => readonly DirectoryEntry[];
  readonly socketOf: (provider: PrincipalName) => string;
  readonly log: Log;
};

type Wanted = {
  readonly account: PrincipalName;
  readonly entries: readonly DirectoryEntry[];
  /** Name of the route → socket. */
  readonly routes: ReadonlyMap<string, string>;
  /** Of the template: never replaced or removed. */
  readonly declared: ReadonlySet<string>;
};

export class DirectoryPush {
  readonly #deps: DirectoryPushDeps;
  /** What the proxy with this pid was told last. */
  readonly #told = new Map<PrincipalName, string>();

  constructor(deps: DirectoryPushDeps) {
    this.#deps = deps;
  }

  /** Returns when to look again, in milliseconds: a proxy did not take it, or a grant may have ended. */
  async refresh(desired: Desired | undefined, sandboxes: readonly SandboxStatus[]): Promise<number> {
    const due: (() => Promise<boolean>)[] = [];
    const seen = new Set<PrincipalName>();
    let all: readonly DirectoryEntry[] | undefined;
    for (const { principal: account, state, proxy } of sandboxes) {
      const outcome = desired?.principals.get(account)?.outcome;
      if (state !== "running" || proxy.state !== "running" || outcome?.kind !== "run") continue;
      const targets = grantedTargets(outcome.sandbox.grants, "service/discover", this.#deps.now());
      if (targets.length === 0 && !this.#told.has(account)) continue;
      seen.add(account);
      all ??= this.#deps.entries();
      const entries = all.filter(({ localpart }) => anyGlobMatches(targets, localpart));
      const declared = new Set(Object.keys(outcome.sandbox.spec.proxy_services ?? {}));
      const wanted = { account, entries, routes: this.#routesTo(entries, declared), declared };
      const told = JSON.stringify([proxy.pid, entries, [...wanted.routes]]);
      if (this.#told.get(account) !== told) due.push(() => this.#tell(wanted, told));
    }
    for (const account of this.#told.keys()) if (!seen.has(account)) this.#told.delete(account);
    let failed = false;
    for (let at = 0; at < due.length; at += AT_ONCE) {
      const results = await Promise.all(due.slice(at, at + AT_ONCE).map((tell) => tell()));
      failed ||= results.includes(false);
    }
    return failed ? RETRY_MS : IDLE_MS;
  }

  #routesTo(entries: readonly DirectoryEntry[], declared: ReadonlySet<string>): Map<string, string> {
    const here = entries.filter(
      ({ machine, endpoints }) => machine === this.#deps.machine && endpoints.includes(HTTP_ENDPOINT),
    );
    const routes = here.map(
      ({ localpart }) => [sanitised(localpart), this.#deps.socketOf(localpart)] as const,
    );
    return new Map(routes.filter(([name]) => !declared.has(name)));
  }

  async #tell({ account, entries, routes, declared }: Wanted, told: string): Promise<boolean> {
    const { proxies, log } = this.#deps;
    try {
      await proxies.putDirectory(account, entries);
      const before = new Set(await proxies.upstreams(account));
      for (const name of before)
        if (!declared.has(name) && !routes.has(name)) await proxies.removeUpstream(account, name);
      for (const [name, socket] of routes) await proxies.putUpstream(account, name, socket);
      this.#told.set(account, told);
      return true;
    } catch (error) {
      log.warn(
        "services.directory-not-pushed",
        "cannot tell a proxy which services there are; trying again",
        {
          principal: account,
          error,
        },
      );
      return false;
    }
  }
}
