/**
 * Brings what proxies refused into the audit log. A proxy pokes the daemon after a refusal; then the daemon asks it. A
 * proxy that refuses nothing is asked once, when the daemon starts.
 */
import { isBureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import type { AuditRecord } from "@bureau/schema/audit";
import type { PrincipalName, UserId } from "@bureau/schema/refs";
import type { ProxyAdmin } from "../launcher/proxy-admin.ts";
import type { Counted } from "./audit-log.ts";
import { cut } from "./record-of.ts";

export type RefusalCollectorDeps = {
  readonly proxies: Pick<ProxyAdmin, "refusals" | "dropRefusals">;
  readonly denied: (record: Omit<AuditRecord, "machine" | "decision">, counted: Counted) => void;
  readonly userOf: (name: PrincipalName) => UserId;
  readonly log: Log;
};

export class RefusalCollector {
  readonly #deps: RefusalCollectorDeps;
  /** Principals whose proxy is being asked; true when it is to be asked again. */
  readonly #asking = new Map<PrincipalName, boolean>();

  constructor(deps: RefusalCollectorDeps) {
    this.#deps = deps;
  }

  /** Never rejects. One request of a principal at a time: a poke meanwhile is answered by one more. */
  async collect(principal: PrincipalName): Promise<void> {
    if (this.#asking.has(principal)) {
      this.#asking.set(principal, true);
      return;
    }
    do {
      this.#asking.set(principal, false);
      await this.#ask(principal);
    } while (this.#asking.get(principal) === true);
    this.#asking.delete(principal);
  }

  async #ask(principal: PrincipalName): Promise<void> {
    const { proxies, denied, userOf, log } = this.#deps;
    try {
      const { batch, refusals } = await proxies.refusals(principal);
      if (refusals.length === 0) return;
      const actor = userOf(principal);
      for (const { point, action, target = "", reason, detail, count, first, last } of refusals)
        denied(
          {
            actor,
            action: cut(action),
            target: cut(target),
            reason: cut(reason),
            enforcement_point: cut(point),
            ...(detail === undefined ? {} : { detail: cut(detail) }),
          },
          { count, first: cut(first), last: cut(last), batch },
        );
      await proxies.dropRefusals(principal, batch);
    } catch (error) {
      // An earlier build has no such list; a sandbox that has ended has no proxy.
      const isExpected = isBureauError(error) && (error.code === "not-found" || error.code === "unavailable");
      log[isExpected ? "debug" : "warn"]("refusals.uncollected", "cannot collect what a proxy refused", {
        principal,
        error,
      });
    }
  }
}
