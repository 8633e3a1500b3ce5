/**
 * Carries out one planned action: asks the launcher or a proxy, remembers what came of it, and tells the config room.
 * It never throws: what fails is remembered as a reason to wait, and the next plan decides.
 */
import { BureauError, messageOf, unreachable } from "@bureau/kit/errors";
import type { SandboxExit } from "@bureau/schema/launcher-ipc";
import type { AccountLocalpart } from "@bureau/schema/refs";
import { notice } from "../notices/notice.ts";
import { noAttempts } from "./memory.ts";
import { type Action, completionOf, keyOf, leaves, nextAttempt } from "./plan.ts";
import type { ReconcilerDeps } from "./reconciler.ts";

type Of<Kind extends Action["kind"]> = Extract<Action, { kind: Kind }>;
/** Actions that are done in memory alone. */
export type Settling = Of<"forget" | "uncomplete">;

/** A launcher that is away for a moment is not worth a message about each principal. */
const SILENT_FAILURES = 2;

export class ActionRunner {
  readonly #deps: ReconcilerDeps;
  /** The start error last told of each principal. */
  readonly #told = new Map<AccountLocalpart, string>();

  constructor(deps: ReconcilerDeps) {
    this.#deps = deps;
  }

  settle(action: Settling): void {
    const { memory, log } = this.#deps;
    try {
      if (action.kind === "forget") memory.forget(action.account);
      else memory.uncomplete(action.account);
      this.#told.delete(action.account);
    } catch (error) {
      log.error("cannot write what has completed", { principal: action.account, error });
    }
  }

  /** `template` is the reference the principal is assigned, for messages. */
  async run(action: Exclude<Action, Settling>, template: string): Promise<void> {
    const { account } = action;
    const { memory, log } = this.#deps;
    try {
      await this.#act(action, template);
      if (action.kind !== "create") memory.update(account, { trouble: noAttempts });
      log.debug("done", { principal: account, action: action.kind });
    } catch (error) {
      log.warn(`cannot ${action.kind} "${account}"`, { principal: account, error });
      if (action.kind === "create") this.#startFailed(action, error);
      else memory.update(account, { trouble: nextAttempt(memory.of(account).trouble, this.#moment()) });
      if (action.kind === "restart-proxy" && action.proxy.failures === 1)
        this.#deps.notify(notice.proxyCrash(account, "failed", messageOf(error)));
    }
  }

  #act(action: Exclude<Action, Settling>, template: string): Promise<void> {
    switch (action.kind) {
      case "create":
        return this.#create(action, template);
      case "destroy":
        return this.#destroy(action);
      case "collect":
        return this.#collect(action);
      case "update-payload":
        return this.#updatePayload(action);
      case "restart-proxy":
        return this.#restartProxy(action);
      case "push-grants":
        return this.#pushGrants(action);
      default:
        return unreachable(action);
    }
  }

  async #create({ account, sandbox }: Of<"create">, template: string): Promise<void> {
    const { launcher, memory, notify, log } = this.#deps;
    const { spec, digests, credentials, grants, trigger } = sandbox;
    await launcher.call("create-sandbox", {
      principal: account,
      sandbox_spec: spec,
      digests,
      grants,
      encrypted_credentials: credentials,
      ...(trigger === undefined ? {} : { trigger_content: trigger }),
      ...(spec.proxy_services === undefined ? {} : { proxy_services: spec.proxy_services }),
    });
    const before = memory.of(account);
    const { lastError: _, settledExitAt: __, ...kept } = before;
    memory.replace(account, {
      ...kept,
      starts: before.starts.key === keyOf(sandbox) ? before.starts : { ...noAttempts, key: keyOf(sandbox) },
      proxy: { ...noAttempts, at: 0 },
      trouble: noAttempts,
      restarts: before.restarts + (before.known ? 1 : 0),
      known: true,
      changing: false,
      grants: sandbox.grantsDigest,
    });
    this.#told.delete(account);
    log.info("started", { principal: account });
    // In a crash loop the exits are told of; saying each time that it started again would only bury them.
    if (before.changing) notify(notice.restarted(account, template));
    else if (before.starts.failures <= 1) notify(notice.started(account));
  }

  #startFailed({ account, sandbox }: Of<"create">, error: unknown): void {
    const { memory, notify } = this.#deps;
    const before = memory.of(account).starts;
    const key = keyOf(sandbox);
    const attempts = nextAttempt(before.key === key ? before : noAttempts, this.#moment());
    const reason = messageOf(error);
    memory.update(account, { starts: { ...attempts, key }, lastError: reason });
    const passing =
      error instanceof BureauError && (error.code === "unavailable" || error.code === "timeout");
    if (passing && attempts.failures <= SILENT_FAILURES) return;
    if (this.#told.get(account) === reason) return;
    this.#told.set(account, reason);
    notify(notice.startFailed(account, reason));
  }

  async #destroy(action: Of<"destroy">): Promise<void> {
    const { clock, memory, notify, log } = this.#deps;
    const { account, why } = action;
    const asked = clock.now();
    const exit = await this.#remove(account);
    if (why === "cleared") return;
    // It may have ended by itself just before it was to be stopped: such work is done, not interrupted.
    if (action.why === "changed" && exit !== undefined && exit.at <= asked) {
      const { have, policy } = action.replaced;
      if (leaves(policy, exit.code)) memory.complete(account, completionOf(have, exit));
      notify(notice.exited(account, exit));
    }
    memory.update(account, { changing: why === "changed" });
    log.info("stopped", { principal: account, why });
    if (why === "undesired") notify(notice.stopped(account));
  }

  async #collect({ account, exit, verdict }: Of<"collect">): Promise<void> {
    const { memory, notify, log } = this.#deps;
    // Durable before the launcher's record is cleared: the other order could forget that it is done.
    if (verdict.kind === "completed") memory.complete(account, verdict.completion);
    else memory.update(account, { starts: verdict.starts });
    memory.update(account, { settledExitAt: exit.at, lastError: exit.description });
    log.info("ended", { principal: account, code: exit.code, next: verdict.kind });
    notify(notice.exited(account, exit));
    await this.#remove(account);
  }

  async #updatePayload({ account, sandbox }: Of<"update-payload">): Promise<void> {
    const { launcher, notify } = this.#deps;
    await launcher.call("update-payload", {
      principal: account,
      payload: sandbox.spec.payload ?? {},
      payload_digest: sandbox.digests.payload,
    });
    notify(notice.payloadUpdated(account));
  }

  async #restartProxy({ account, sandbox, proxy }: Of<"restart-proxy">): Promise<void> {
    const { launcher, memory, notify } = this.#deps;
    memory.update(account, { proxy });
    if (proxy.failures === 1) notify(notice.proxyCrash(account, "detected"));
    await launcher.call("restart-proxy", {
      principal: account,
      encrypted_credentials: sandbox.credentials,
      grants: sandbox.grants,
      ...(sandbox.spec.proxy_services === undefined ? {} : { proxy_services: sandbox.spec.proxy_services }),
    });
    memory.update(account, { grants: sandbox.grantsDigest });
    notify(notice.proxyCrash(account, "recovered"));
  }

  async #pushGrants({ account, grants, digest }: Of<"push-grants">): Promise<void> {
    const { memory, notify, proxies } = this.#deps;
    await proxies.putGrants(account, grants);
    const before = memory.of(account).grants;
    memory.update(account, { grants: digest });
    // After a restart of the daemon they are pushed to be sure, which is no news.
    if (before !== undefined) notify(notice.grantsUpdated(account, grants.length));
  }

  /** Gone already is as good as removed. */
  async #remove(account: AccountLocalpart): Promise<SandboxExit | undefined> {
    const { launcher, graceMs } = this.#deps;
    try {
      return (await launcher.call("destroy-sandbox", { principal: account, grace_ms: graceMs })).exit;
    } catch (error) {
      if (error instanceof BureauError && error.code === "not-found") return undefined;
      throw error;
    }
  }

  #moment(): { now: number; jitter: number } {
    return { now: this.#deps.clock.monotonic(), jitter: this.#deps.random() };
  }
}
