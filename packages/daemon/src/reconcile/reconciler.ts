/**
 * The loop that brings the machine to its desired state: list, plan, act, repeat. Events only mark it; it alone acts.
 *
 * At most one action a principal is under way. A list that was requested during an action says nothing about its
 * principal, so that pass leaves the principal out. Without a list nothing is done: a launcher that does not answer may
 * still run every sandbox.
 */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import { messageOf } from "@bureau/kit/errors";
import type { LimitsFact, SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { PrincipalReport } from "@bureau/schema/observe-wire";
import type { PrincipalName, UserId } from "@bureau/schema/refs";
import type { Decommission } from "../desired/decommission.ts";
import type { Desired } from "../desired/desired.ts";
import { eventMessage } from "../event-messages/event-message.ts";
import type { HealthMonitor } from "../health/health-monitor.ts";
import { KnownSandboxes } from "../launcher/known-sandboxes.ts";
import { Wakeup } from "../wakeup.ts";
import { ActionRunner, type ActionRunnerDeps, isRecordAction } from "./action-runner.ts";
import { type Action, type Busy, type Plan, type PlanInput, plan } from "./plan.ts";

/** Actions under way at a time. */
const ACTIONS_MAX = 8;
/** Maximum time between two passes: a lost mark only delays an action. */
const LOOK_AGAIN_MS = 60_000;
/** Maximum time of one `wait` request to the launcher. */
const WATCH_MS = 30_000;
/** No list has it: a wait for another one ends at once. */
const NO_REVISION = -1;
/** Interval between lists while all sandboxes are being destroyed. */
const DESTROY_POLL_MS = 100;
/** A launcher that works answers in milliseconds. */
const DESTROY_LIST_MS_MAX = 2_000;

export type ReconcilerDeps = ActionRunnerDeps & {
  readonly health: HealthMonitor;
  /** The desired state, from the rooms as they are now; undefined while it is unknown. */
  readonly desired: () => Desired | undefined;
  readonly userOf: (account: PrincipalName) => UserId;
  /** A request to leave is valid and no sandbox is left; `stopped` sandboxes ran. Called in every pass. */
  readonly onDrained: (decommission: Decommission, stopped: number) => void;
  /** A sandbox is gone, or was replaced. */
  readonly onGone?: () => void;
  /** Called in every pass, once {@link Reconciler.view} has what runs. */
  readonly onPass?: () => void;
};

const MADE_ELSEWHERE =
  "its sandbox is being created, or the rest of one removed, by a request of an earlier daemon";

/** What other subsystems read. */
export type ReconcilerView = {
  readonly reports: readonly PrincipalReport[];
  readonly sandboxes: readonly SandboxStatus[];
  /** Why the launcher cannot be reached; undefined while it can. */
  readonly launcherAway: string | undefined;
  /** How far the launcher enforces limits of sandboxes. */
  readonly limits?: LimitsFact | undefined;
  /** The write time of the reported configuration; undefined while there is none. */
  readonly configSentAt?: number | undefined;
};

export class Reconciler {
  readonly #deps: ReconcilerDeps;
  readonly #runner: ActionRunner;
  readonly #wakeup: Wakeup;
  readonly #underWay = new Map<PrincipalName, { readonly busy: Busy; readonly done: Promise<void> }>();
  /** The fault last reported of each principal that cannot start as configured. */
  readonly #told = new Map<PrincipalName, string>();
  /** The principals whose faults are in `#told`: the same object until one changes. */
  #toldFor: Desired["principals"] | undefined;
  readonly #known = new KnownSandboxes();
  #view: ReconcilerView = { reports: [], sandboxes: [], launcherAway: "not asked yet" };
  /** Stopped because of a request to leave. */
  readonly #drained = new Set<PrincipalName>();
  #lastPlan: { readonly input: PlanInput; readonly result: Plan } | undefined;
  #adopted = false;
  #listFailures = 0;
  #halted = false;
  #paused = false;
  /** Times that {@link resume} was called. */
  #resumes = 0;
  readonly #firstLook = Promise.withResolvers<void>();
  readonly #firstPass = Promise.withResolvers<void>();

  constructor(deps: ReconcilerDeps) {
    this.#deps = deps;
    this.#runner = new ActionRunner(deps);
    this.#wakeup = new Wakeup(deps.clock);
  }

  get view(): ReconcilerView {
    return this.#view;
  }

  /** The last plan and its inputs; undefined before the first. */
  get lastPlan(): { readonly input: PlanInput; readonly result: Plan } | undefined {
    return this.#lastPlan;
  }

  /** The state of the loop, for people. */
  get status() {
    return {
      launcherAway: this.#view.launcherAway,
      underWay: Object.fromEntries([...this.#underWay].map(([account, { busy }]) => [account, busy])),
      received: this.#known.received,
      paused: this.#paused,
      halted: this.#halted,
    };
  }

  /** Resolves once {@link view} has the running sandboxes, or the reason why they are unknown. */
  get hasLooked(): Promise<void> {
    return this.#firstLook.promise;
  }

  /** Resolves after the first plan from a desired and an actual state. */
  get hasPlanned(): Promise<void> {
    return this.#firstPass.promise;
  }

  /** Something may have changed. */
  mark(): void {
    this.#wakeup.mark();
  }

  /** Works until `signal` aborts, then stops all health checks and waits for the actions under way. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.mark(), { once: true });
    const watching = this.#watch(signal);
    while (!signal.aborted) {
      const wakeAt = await this.#pass();
      this.#firstLook.resolve();
      if (signal.aborted) break;
      const latest = this.#deps.clock.monotonic() + LOOK_AGAIN_MS;
      await this.#wakeup.wait(Math.min(wakeAt ?? latest, latest));
    }
    this.#deps.health[Symbol.dispose]();
    await Promise.all([watching, ...[...this.#underWay.values()].map(({ done }) => done)]);
  }

  /** One pass; returns the time of the next, on the monotonic clock. */
  async #pass(): Promise<number | undefined> {
    const { clock, launcher, random } = this.#deps;
    const busy = new Map([...this.#underWay].map(([account, action]) => [account, action.busy]));
    const elsewhere = new Set<string>();
    const resumes = this.#resumes;
    let sandboxes: readonly SandboxStatus[];
    let limits: LimitsFact | undefined;
    let givesServices: boolean;
    let mergesKeys: boolean;
    try {
      const list = await this.#known.update(launcher);
      sandboxes = this.#known.all;
      limits = list.limits;
      givesServices = list.gives_services === true;
      mergesKeys = list.merges_keys === true;
      // An earlier daemon may have requested it. The next list shows the result.
      for (const account of list.creating ?? [])
        if (!busy.has(account)) {
          elsewhere.add(account);
          busy.set(account, "starting");
        }
    } catch (error) {
      this.#away(error);
      return clock.monotonic() + delayMs(standardBackoff, this.#listFailures++, random);
    }
    this.#listFailures = 0;
    this.#adopt(sandboxes);
    const desired = this.#deps.desired();
    const { state, history, health, userOf } = this.#deps;
    const now = clock.monotonic();
    const jitter = random();
    const given = { desired, actual: sandboxes, givesServices, mergesKeys };
    const input = { ...given, state, history, health, busy, now, jitter, userOf };
    const result = plan(input);
    this.#lastPlan = { input, result };
    health.follow(sandboxes, result.checks);
    const before = this.#view.sandboxes;
    const configSentAt = desired?.configSentAt;
    const reports = result.reports.map((one) =>
      elsewhere.has(one.name) ? { ...one, reason: one.reason ?? MADE_ELSEWHERE } : one,
    );
    this.#view = { reports, sandboxes, launcherAway: undefined, configSentAt, limits };
    const startOf = new Map(sandboxes.map(({ principal, started_at }) => [principal, started_at]));
    if (before.some(({ principal, started_at }) => startOf.get(principal) !== started_at))
      this.#deps.onGone?.();
    this.#deps.onPass?.();
    this.#tellFaults(desired);
    if (desired !== undefined) this.#firstPass.resolve();
    // A list requested during a pause may come from a launcher that has been replaced since.
    if (this.#halted || this.#paused || resumes !== this.#resumes) return undefined;
    if (desired?.decommission === undefined) this.#drained.clear();
    else if (result.drained) this.#deps.onDrained(desired.decommission, this.#drained.size);
    for (const action of result.actions) this.#start(action, desired);
    return result.wakeAt;
  }

  /** An action beyond the limit is planned again when another one ends. */
  #start(action: Action, desired: Desired | undefined): void {
    if (isRecordAction(action)) {
      this.#runner.record(action);
      // The next plan depends on what was recorded, but not on deleted state.
      if (action.kind !== "forget" && action.kind !== "uncomplete") this.mark();
      return;
    }
    // A machine that leaves stops every sandbox at once: one grace period for all.
    const leaves = desired?.decommission !== undefined;
    if (this.#underWay.size >= ACTIONS_MAX && !leaves) return;
    if (leaves && action.kind === "destroy" && action.why === "undesired") this.#drained.add(action.account);
    const wanted = desired?.principals.get(action.account);
    const done = this.#runner.run(action, wanted?.template ?? "").finally(() => {
      this.#underWay.delete(action.account);
      this.mark();
    });
    this.#underWay.set(action.account, { busy: busyOf(action), done });
  }

  /** Reports once each sandbox that an earlier daemon started; such sandboxes count as started. */
  #adopt(sandboxes: readonly SandboxStatus[]): void {
    if (this.#adopted) return;
    this.#adopted = true;
    for (const { principal, state } of sandboxes) {
      if (state !== "running") continue;
      this.#deps.state.update(principal, { known: true });
      this.#deps.notify(eventMessage.adopted(principal));
    }
  }

  /** Reports each distinct fault of a principal's configuration once. */
  #tellFaults(desired: Desired | undefined): void {
    if (desired === undefined || desired.principals === this.#toldFor) return;
    this.#toldFor = desired.principals;
    for (const [account, { outcome }] of desired.principals) {
      if (outcome.kind === "unresolved") continue;
      if (outcome.kind !== "failed") this.#told.delete(account);
      else if (this.#told.get(account) !== outcome.reason) {
        this.#told.set(account, outcome.reason);
        this.#deps.log.warn("principal.invalid", "a principal cannot run as configured", {
          principal: account,
          reason: outcome.reason,
        });
        this.#deps.notify(eventMessage.startFailed(account, outcome.reason));
      }
    }
  }

  #away(error: unknown): void {
    if (this.#view.launcherAway === undefined || this.#listFailures === 0)
      this.#deps.log.warn(
        "launcher.unreachable",
        "the launcher does not answer; no sandbox changes until it does",
        { error },
      );
    this.#view = { ...this.#view, launcherAway: messageOf(error) };
  }

  /** Marks the loop on every change at the launcher, and when the launcher is reachable again. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, launcher, random } = this.#deps;
    // Before the first pass this would request a whole list, too.
    await this.hasLooked;
    let since = this.#known.revision ?? NO_REVISION;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const timeout_ms = failures > 0 ? 0 : WATCH_MS;
        const list = await launcher.call("wait", { since, timeout_ms, changes: true }, { signal });
        if (list.revision !== since || failures > 0) this.mark();
        since = list.revision;
        failures = 0;
      } catch {
        // The pass reports the failure; this loop only waits.
        await clock.sleep(delayMs(standardBackoff, failures++, random), signal);
      }
    }
  }

  /** Starts no more actions. Resolves when those under way have ended; false when that took longer than `timeoutMs`. */
  async pause(timeoutMs: number): Promise<boolean> {
    this.#paused = true;
    const underWay = Promise.all([...this.#underWay.values()].map(({ done }) => done));
    const { clock } = this.#deps;
    return await Promise.race([underWay.then(() => true), clock.sleep(timeoutMs).then(() => false)]);
  }

  /** Continues after a {@link pause}. */
  resume(): void {
    this.#paused = false;
    this.#resumes++;
    this.mark();
  }

  /**
   * Destroys every sandbox at once and starts none again. Resolves true when none is left, false when `budgetMs` was
   * not enough.
   */
  async destroyEverything(budgetMs: number): Promise<boolean> {
    const { clock, launcher, log } = this.#deps;
    this.#halted = true;
    const deadline = clock.monotonic() + budgetMs;
    while (clock.monotonic() < deadline) {
      try {
        // Ask a hanging launcher again: it may have been restarted meanwhile.
        const signal = AbortSignal.timeout(DESTROY_LIST_MS_MAX);
        const { sandboxes, creating = [] } = await launcher.call("list-sandboxes", {}, { signal });
        const live = (sandboxes ?? []).filter(({ state }) => state === "running");
        if (live.length === 0 && creating.length === 0 && this.#underWay.size === 0) return true;
        const destroyed = Promise.all(
          live.map(({ principal }) => launcher.call("destroy-sandbox", { principal, force: true })),
        );
        await Promise.race([destroyed, clock.sleep(deadline - clock.monotonic())]);
      } catch (error) {
        log.error("reconcile.destroy-all-failed", "cannot destroy every sandbox yet", { error });
      }
      await clock.sleep(DESTROY_POLL_MS);
    }
    return false;
  }
}

function busyOf(action: Action): Busy {
  if (action.kind === "create") return "starting";
  return action.kind === "destroy" || action.kind === "collect" ? "stopping" : "running";
}
