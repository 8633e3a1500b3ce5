/**
 * How each running principal is. One loop a sandbox asks it at the interval its template gives; one that has no health
 * check has proved itself by running for a while. It only tells: what follows from it is for the plan to say.
 *
 * What is known belongs to one run of a sandbox. The next run starts knowing nothing, also when its principal was
 * unhealthy a moment ago.
 */
import type { Runtime } from "@bureau/kit/runtime";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { PrincipalReport } from "@bureau/schema/observe-wire";
import type { PrincipalName } from "@bureau/schema/refs";
import type { HealthCheck } from "@bureau/schema/template";
import { checkNameOf, checkPlan, STEADY_MS } from "./health-check.ts";
import type { HealthProbe } from "./health-probe.ts";

export type Health = {
  /** Undefined without a health check. */
  readonly state: PrincipalReport["health"];
  /** It has proved that it works: healthy once, or steady when it has no check. */
  readonly hasPassed: boolean;
  /** What the last failure was. */
  readonly reason?: string;
};

export type HealthMonitorDeps = Pick<Runtime, "clock" | "log"> & {
  readonly healthProbe: HealthProbe;
  readonly onChange: () => void;
};

type Entry = Pick<SandboxStatus, "started_at" | "pid"> & {
  readonly check: string;
  readonly stop: AbortController;
  health: Health;
};

/** Whether the entry is about this run of the sandbox. */
const isOf = (entry: Entry, { started_at, pid }: SandboxStatus): boolean =>
  entry.started_at === started_at && entry.pid === pid;

export class HealthMonitor implements Disposable {
  readonly #deps: HealthMonitorDeps;
  readonly #entries = new Map<PrincipalName, Entry>();

  constructor(deps: HealthMonitorDeps) {
    this.#deps = deps;
  }

  /** What this check says about this run. */
  of(sandbox: SandboxStatus, check: HealthCheck | undefined): Health {
    const entry = this.#entries.get(sandbox.principal);
    if (entry !== undefined && isOf(entry, sandbox) && entry.check === checkNameOf(check))
      return entry.health;
    return { state: check === undefined ? undefined : "starting", hasPassed: false };
  }

  /** The health of each principal that is watched. */
  view(): Record<PrincipalName, Health> {
    return Object.fromEntries([...this.#entries].map(([account, { health }]) => [account, health]));
  }

  /**
   * Watches what runs and has an entry in `checks`, which is undefined for one without a health check. What runs and
   * has none is watched as before, so that a principal that is being acted on is not forgotten.
   */
  follow(
    actual: readonly SandboxStatus[],
    checks: ReadonlyMap<PrincipalName, HealthCheck | undefined>,
  ): void {
    const live = new Map(
      actual.filter(({ state }) => state === "running").map((sandbox) => [sandbox.principal, sandbox]),
    );
    for (const [account, entry] of this.#entries) {
      const sandbox = live.get(account);
      if (sandbox === undefined || !isOf(entry, sandbox)) this.#drop(account, entry);
    }
    for (const [account, check] of checks) {
      const sandbox = live.get(account);
      if (sandbox !== undefined) this.#watch(sandbox, check);
    }
  }

  [Symbol.dispose](): void {
    for (const [account, entry] of this.#entries) this.#drop(account, entry);
  }

  #drop(account: PrincipalName, entry: Entry): void {
    entry.stop.abort();
    this.#entries.delete(account);
  }

  #watch(sandbox: SandboxStatus, check: HealthCheck | undefined): void {
    const name = checkNameOf(check);
    const before = this.#entries.get(sandbox.principal);
    if (before?.check === name) return;
    before?.stop.abort();
    const state = check === undefined ? undefined : "starting";
    const entry: Entry = {
      started_at: sandbox.started_at,
      pid: sandbox.pid,
      check: name,
      stop: new AbortController(),
      health: { state, hasPassed: false },
    };
    this.#entries.set(sandbox.principal, entry);
    void (check === undefined ? this.#waitSteady(sandbox, entry) : this.#ask(sandbox, check, entry));
  }

  async #waitSteady(sandbox: SandboxStatus, entry: Entry): Promise<void> {
    await this.#sleepUntil(sandbox, STEADY_MS, entry);
    this.#set(entry, { state: undefined, hasPassed: true });
  }

  async #ask(sandbox: SandboxStatus, check: HealthCheck, entry: Entry): Promise<void> {
    const { healthProbe, clock, log } = this.#deps;
    const { signal } = entry.stop;
    const plan = checkPlan(check);
    await this.#sleepUntil(sandbox, plan.graceMs + plan.intervalMs, entry);
    for (let failures = 0; !signal.aborted; ) {
      const reason = await healthProbe(sandbox.principal, plan, signal);
      if (signal.aborted) return;
      failures = reason === undefined ? 0 : failures + 1;
      const { hasPassed } = entry.health;
      if (reason === undefined) this.#set(entry, { state: "healthy", hasPassed: true });
      else {
        const state = failures >= plan.failuresMax ? "unhealthy" : "failing";
        log.debug("health.failed", "a health check failed", {
          principal: sandbox.principal,
          failures,
          reason,
        });
        this.#set(entry, { state, hasPassed, reason });
      }
      await clock.sleep(plan.intervalMs, signal);
    }
  }

  /** Until `ms` after the sandbox began, by the wall's clock, and never longer than that. */
  #sleepUntil(sandbox: SandboxStatus, ms: number, entry: Entry): Promise<void> {
    const { clock } = this.#deps;
    const left = sandbox.started_at + ms - clock.now();
    return clock.sleep(Math.max(0, Math.min(ms, left)), entry.stop.signal);
  }

  #set(entry: Entry, health: Health): void {
    if (entry.stop.signal.aborted) return;
    const { state, hasPassed } = entry.health;
    entry.health = health;
    if (state !== health.state || hasPassed !== health.hasPassed) this.#deps.onChange();
  }
}
