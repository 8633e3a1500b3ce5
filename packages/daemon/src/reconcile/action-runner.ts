/**
 * Carries out one planned action: calls the launcher or a proxy, records the result, and posts an event message. It
 * never throws: a failure is recorded as a reason to wait, and the next plan decides.
 */
import { BureauError, type ErrorCode, isBureauError, messageOf, unreachable } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import type { SandboxExit, SandboxServices } from "@bureau/schema/launcher-ipc";
import type { PrincipalName } from "@bureau/schema/refs";
import type { DesiredPrincipal, WantedSandbox } from "../desired/desired.ts";
import { type EventMessage, eventMessage } from "../event-messages/event-message.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import type { ProxyAdmin } from "../launcher/proxy-admin.ts";
import { type Action, completionOf, leaves, nextAttempt } from "./plan.ts";
import { freshState, noAttempts, type ReconcileState } from "./reconcile-state.ts";
import { goodSpecOf, keyOf } from "./rollback.ts";
import type { GoodSpec, SpecHistory } from "./spec-history.ts";

type Of<Kind extends Action["kind"]> = Extract<Action, { kind: Kind }>;
type Unhealthy = Extract<Action, { why: "unhealthy" }>;
/** Actions that change only the reconcile state, in memory and on disk. */
export type RecordAction = Of<
  "forget" | "uncomplete" | "keep" | "reject" | "readmit" | "give-up" | "announce"
>;
const recordActions: ReadonlySet<Action["kind"]> = new Set<RecordAction["kind"]>([
  ...(["forget", "uncomplete", "keep", "reject", "readmit", "give-up", "announce"] as const),
]);
export const isRecordAction = (action: Action): action is RecordAction => recordActions.has(action.kind);

/** A launcher that is briefly unreachable causes no message about each principal. */
const SILENT_FAILURES = 2;
/** The code of an exit with unknown status, as in the launcher's records. */
const EXIT_UNKNOWN = -1;
/** The launcher's codes for a configuration that fails at every try. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set(["forbidden", "invalid-input"]);

export type ActionRunnerDeps = Runtime & {
  readonly launcher: Launcher;
  readonly proxies: Pick<ProxyAdmin, "putGrants">;
  readonly state: ReconcileState;
  readonly history: SpecHistory;
  readonly notify: (message: EventMessage) => void;
  /** Runs before a sandbox is created. It never rejects, and returns within seconds. */
  readonly beforeStart?: (principal: DesiredPrincipal, sandbox: WantedSandbox) => Promise<void>;
  /** Sockets and tokens for a new sandbox that requires services. */
  readonly servicesFor?: (principal: DesiredPrincipal, sandbox: WantedSandbox) => SandboxServices | undefined;
  /** Called before a sandbox is removed, and once it is gone or could not be removed. */
  readonly onRemoval: (account: PrincipalName) => void;
  /** Time between SIGTERM and SIGKILL. */
  readonly graceMs: number;
};

export class ActionRunner {
  readonly #deps: ActionRunnerDeps;
  /** The start error that was last reported for each principal. */
  readonly #told = new Map<PrincipalName, string>();

  constructor(deps: ActionRunnerDeps) {
    this.#deps = deps;
  }

  record(action: RecordAction): void {
    const { log } = this.#deps;
    try {
      this.#write(action);
    } catch (error) {
      log.error("reconcile.state-unwritten", "cannot write the reconcile state", {
        principal: action.account,
        error,
      });
    }
  }

  #write(action: RecordAction): void {
    const { state, history, notify, log } = this.#deps;
    const { account } = action;
    switch (action.kind) {
      case "forget":
        this.#told.delete(account);
        history.forget(account);
        state.forget(account);
        break;
      case "uncomplete":
        this.#told.delete(account);
        state.uncomplete(account);
        break;
      case "keep":
        if (action.news !== undefined) notify(eventMessage.steady(account, action.news));
        history.keep(account, action.good);
        break;
      case "reject": {
        const { reason } = action.rejected;
        log.warn("principal.rolled-back", "a configuration failed; the previous one runs again", {
          principal: account,
          reason,
        });
        history.reject(account, action.rejected);
        break;
      }
      case "readmit":
        state.update(account, { trial: freshState.trial });
        if (action.news !== undefined) notify(eventMessage.steady(account, action.news));
        history.readmit(account);
        break;
      case "give-up":
        notify(eventMessage.healthCheck(account, "rollback_failed", action.reason));
        state.update(account, { trial: freshState.trial });
        history.giveUp(account);
        break;
      case "announce":
        notify(eventMessage.healthCheck(account, "rolled_back", action.rejected.reason));
        history.reject(account, action.rejected);
        break;
      default:
        unreachable(action);
    }
  }

  /** `template` is the reference the principal is assigned, for messages. */
  async run(action: Exclude<Action, RecordAction>, template: string): Promise<void> {
    const { account } = action;
    const { state, log } = this.#deps;
    try {
      await this.#act(action, template);
      if (action.kind !== "create") state.update(account, { trouble: noAttempts });
      log.debug("reconcile.action-done", "done", { principal: account, action: action.kind });
    } catch (error) {
      log.warn("reconcile.action-failed", `cannot ${action.kind} "${account}"`, {
        principal: account,
        error,
      });
      if (action.kind === "create") this.#startFailed(action, error);
      else state.update(account, { trouble: nextAttempt(state.of(account).trouble, this.#moment()) });
      if (action.kind === "restart-proxy" && action.proxy.failures === 1)
        this.#deps.notify(eventMessage.proxyCrash(account, "failed", messageOf(error)));
    }
  }

  #act(action: Exclude<Action, RecordAction>, template: string): Promise<void> {
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
      case "rotate-credentials":
        return this.#rotateCredentials(action);
      case "push-grants":
        return this.#pushGrants(action);
      default:
        return unreachable(action);
    }
  }

  async #create({ account, want, sandbox, instead }: Of<"create">, template: string): Promise<void> {
    const { launcher, state, notify, log } = this.#deps;
    const { spec, digests, trigger } = sandbox;
    await this.#deps.beforeStart?.(want, sandbox);
    const services = this.#deps.servicesFor?.(want, sandbox);
    await launcher.call("create-sandbox", {
      principal: account,
      sandbox_spec: spec,
      digests,
      ...proxyFieldsOf(sandbox),
      ...(trigger === undefined ? {} : { trigger_content: trigger }),
      ...(services === undefined ? {} : { services }),
    });
    const before = state.of(account);
    const { lastError: _, collectedExitAt: __, refused: ___, ...kept } = before;
    state.replace(account, {
      ...kept,
      starts: before.starts.key === keyOf(sandbox) ? before.starts : { ...noAttempts, key: keyOf(sandbox) },
      proxy: { ...noAttempts, at: 0 },
      trouble: noAttempts,
      restarts: before.restarts + (before.known ? 1 : 0),
      known: true,
      changing: false,
      grants: sandbox.grantsDigest,
      ran: goodSpecOf(sandbox, false),
    });
    this.#told.delete(account);
    log.info("principal.started", "started", { principal: account });
    // In a crash loop the exits are reported; a message about each start would bury them. A rollback is reported when
    // the plan has seen that it runs.
    if (instead !== undefined) return;
    if (before.changing) notify(eventMessage.restarted(account, template));
    else if (before.starts.failures <= 1) notify(eventMessage.started(account));
  }

  #startFailed({ account, sandbox, instead }: Of<"create">, error: unknown): void {
    const { state, notify } = this.#deps;
    const before = state.of(account).starts;
    const key = keyOf(sandbox);
    const attempts = nextAttempt(before.key === key ? before : noAttempts, this.#moment());
    const reason = messageOf(error);
    state.update(account, { starts: { ...attempts, key }, lastError: reason });
    if (isBureauError(error) && REFUSALS.has(error.code)) state.update(account, { refused: { key, reason } });
    const passing =
      error instanceof BureauError && (error.code === "unavailable" || error.code === "timeout");
    if (!passing) this.#countFailure(account, key);
    if (passing && attempts.failures <= SILENT_FAILURES) return;
    if (this.#told.get(account) === reason) return;
    this.#told.set(account, reason);
    if (instead !== undefined && !instead.announced)
      notify(eventMessage.healthCheck(account, "rollback_failed", reason));
    else notify(eventMessage.startFailed(account, reason));
  }

  /** Counts towards {@link TRIAL_FAILURES_MAX}. An unreachable launcher is not a fault of the configuration. */
  #countFailure(account: PrincipalName, key: string): void {
    const { state } = this.#deps;
    const { trial } = state.of(account);
    state.update(account, { trial: { key, failures: trial.key === key ? trial.failures + 1 : 1 } });
  }

  /** A failure only means that a rollback is impossible: the action continues. */
  #keep(account: PrincipalName, good: GoodSpec): void {
    try {
      this.#deps.history.keep(account, good);
    } catch (error) {
      this.#deps.log.error("reconcile.state-unwritten", "cannot write the reconcile state", {
        principal: account,
        error,
      });
    }
  }

  async #destroy(action: Of<"destroy">): Promise<void> {
    const { clock, state, notify, log } = this.#deps;
    const { account, why } = action;
    const asked = clock.now();
    if (action.why === "changed" && action.keep !== undefined) this.#keep(account, action.keep);
    if (action.why === "unhealthy") this.#leaveIfNever(action, asked);
    const exit = await this.#remove(account, "graceMs" in action ? action.graceMs : undefined);
    if (why === "cleared") return;
    // It may have ended by itself just before the stop: then its work is complete, not interrupted.
    const ended = exit !== undefined && exit.at <= asked ? exit : undefined;
    if ((action.why === "changed" || action.why === "unhealthy") && ended !== undefined) {
      const { have, policy } = action.replaced;
      if (leaves(policy, ended.code)) state.complete(account, completionOf(have, ended));
      notify(eventMessage.exited(account, ended));
    } else if (action.why === "unhealthy") {
      state.update(account, { starts: action.starts, lastError: action.reason });
      notify(eventMessage.healthCheck(account, "destroyed", action.reason));
    }
    state.update(account, { changing: why === "changed" });
    log.info("principal.stopped", "stopped", { principal: account, why });
    if (why === "undesired") notify(eventMessage.stopped(account));
  }

  /**
   * Under `never` it stays stopped after any exit. That is written before the stop, because a crash of the launcher or
   * the daemon meanwhile may lose the exit.
   */
  #leaveIfNever({ account, replaced, reason }: Unhealthy, at: number): void {
    const { have, policy } = replaced;
    if (policy !== "never") return;
    const exit = { code: EXIT_UNKNOWN, description: reason, at };
    this.#deps.state.complete(account, completionOf(have, exit));
  }

  async #collect({ account, exit, verdict }: Of<"collect">): Promise<void> {
    const { state, notify, log } = this.#deps;
    // Durable before the launcher's record is cleared: the other order could forget that it is done.
    if (verdict.kind === "completed") state.complete(account, verdict.completion);
    else {
      state.update(account, { starts: verdict.starts });
      if (verdict.isFailure) this.#countFailure(account, verdict.starts.key);
    }
    state.update(account, { collectedExitAt: exit.at, lastError: exit.description });
    log.info("principal.exited", "ended", { principal: account, code: exit.code, next: verdict.kind });
    notify(eventMessage.exited(account, exit));
    await this.#remove(account);
  }

  async #updatePayload({ account, sandbox }: Of<"update-payload">): Promise<void> {
    const { launcher, notify } = this.#deps;
    await launcher.call("update-payload", {
      principal: account,
      payload: sandbox.spec.payload ?? {},
      payload_digest: sandbox.digests.payload,
    });
    this.#deps.state.update(account, { ran: goodSpecOf(sandbox, false) });
    notify(eventMessage.payloadUpdated(account));
  }

  async #restartProxy({ account, sandbox, proxy }: Of<"restart-proxy">): Promise<void> {
    const { launcher, state, notify } = this.#deps;
    state.update(account, { proxy });
    if (proxy.failures === 1) notify(eventMessage.proxyCrash(account, "detected"));
    await launcher.call("restart-proxy", { principal: account, ...proxyFieldsOf(sandbox) });
    state.update(account, { grants: sandbox.grantsDigest });
    notify(eventMessage.proxyCrash(account, "recovered"));
  }

  /** The launcher opens the new credentials before it ends the old proxy: when it cannot, those in use stay. */
  async #rotateCredentials({ account, sandbox }: Of<"rotate-credentials">): Promise<void> {
    const { launcher, state, notify, log } = this.#deps;
    try {
      await launcher.call("restart-proxy", {
        principal: account,
        spec_digest: sandbox.digests.spec,
        ...proxyFieldsOf(sandbox),
      });
    } catch (error) {
      if (state.of(account).trouble.failures === 0)
        notify(eventMessage.credentialsRotated(account, "failed", messageOf(error)));
      throw error;
    }
    state.update(account, { grants: sandbox.grantsDigest });
    log.info("principal.credentials-rotated", "its proxy has new credentials", { principal: account });
    notify(eventMessage.credentialsRotated(account, "live_updated"));
  }

  async #pushGrants({ account, grants, digest }: Of<"push-grants">): Promise<void> {
    const { state, notify, proxies } = this.#deps;
    await proxies.putGrants(account, grants);
    const before = state.of(account).grants;
    state.update(account, { grants: digest });
    // After a restart of the daemon they are pushed as a precaution: not worth a message.
    if (before !== undefined) notify(eventMessage.grantsUpdated(account, grants.length));
  }

  /** A missing sandbox counts as removed. */
  async #remove(account: PrincipalName, graceMs = this.#deps.graceMs): Promise<SandboxExit | undefined> {
    const { launcher, onRemoval } = this.#deps;
    onRemoval(account);
    try {
      return (await launcher.call("destroy-sandbox", { principal: account, grace_ms: graceMs })).exit;
    } catch (error) {
      if (error instanceof BureauError && error.code === "not-found") return undefined;
      throw error;
    } finally {
      onRemoval(account);
    }
  }

  #moment(): { now: number; jitter: number } {
    return { now: this.#deps.clock.monotonic(), jitter: this.#deps.random() };
  }
}

/** What each start of a proxy needs. */
const proxyFieldsOf = ({ spec, credentials, credentialKeys, grants }: WantedSandbox) => ({
  encrypted_credentials: credentials,
  ...(credentialKeys === undefined ? {} : { credential_keys: credentialKeys }),
  grants,
  ...(spec.proxy_services === undefined ? {} : { proxy_services: spec.proxy_services }),
  ...(spec.egress === undefined ? {} : { egress: spec.egress }),
});
