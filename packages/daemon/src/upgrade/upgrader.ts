/**
 * Replaces the running build by another, while every program in a sandbox keeps running. It calls {@link next} with
 * what it observes, performs the effect, and calls it again with the result. One request at a time.
 *
 * The boot link moves only at the end of an upgrade. So after a crash at any moment the last build that was known to
 * work starts; it reads how far the new one came and reports it. A failed request is never retried.
 *
 * Until a launcher has proved that it knows every sandbox, none is started or stopped: a launcher that lost its records
 * would start a second sandbox beside a running one.
 */
import type { BackoffPolicy } from "@bureau/kit/backoff";
import { messageOf } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import type { Build } from "@bureau/os/build";
import { wentBackVariable } from "@bureau/os/watchdog-record";
import type { FleetCache, MachineVersion } from "@bureau/schema/events";
import type { EventMessage } from "../event-messages/event-message.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import { Wakeup } from "../wakeup.ts";
import { type BecomeOptions, PAUSE_MS_MAX } from "./become.ts";
import { decideAtStart } from "./decide.ts";
import { LauncherUpgrade } from "./launcher-upgrade.ts";
import { machineBuild } from "./machine-build.ts";
import { type Answer, type Effect, next, type Phase, type Seen, SILENCE_MS_MAX } from "./next.ts";
import type { UpgradeHost } from "./upgrade-host.ts";
import { recalled, type UpgradeRequest } from "./upgrade-state.ts";
import { UpgradeStore } from "./upgrade-store.ts";
import type { UpgradeTimes } from "./upgrade-times.ts";

/** Between two attempts to write what a full disk did not take. */
const WRITE_AGAIN_MS = 15_000;
/** Short enough to detect in time that the homeserver is reachable again. */
export const trialBackoff: BackoffPolicy = { firstMs: 250, maxMs: 1_000 };

export type UpgraderDeps = Pick<Runtime, "clock" | "log"> & {
  readonly host: UpgradeHost;
  /** The build that this daemon runs from. */
  readonly own: Build;
  readonly launcher: Launcher;
  /** The build that the machine's configuration currently requests. */
  readonly wanted: () => UpgradeRequest | undefined;
  /** The fleet's Nix cache. */
  readonly cache: () => FleetCache | undefined;
  readonly isOnline: () => boolean;
  /** The homeserver was asked and did not answer. */
  readonly isAway: () => boolean;
  /** The content of this machine's room about its builds. */
  readonly said: () => MachineVersion | undefined;
  /** The event about the running build came back through /sync. */
  readonly isEchoed: () => boolean;
  /** Called when the content to publish may have changed. */
  readonly changed: () => void;
  readonly notify: (message: EventMessage) => void;
  /** Replaces this daemon by that build. Returns only on failure, with the reason; this daemon then keeps running. */
  readonly become: (path: string, options?: BecomeOptions) => Promise<string>;
  /** Starts and stops sandboxes; paused until the launcher is known to know all running ones. */
  readonly reconciler: Pick<Reconciler, "pause" | "resume">;
  readonly times: UpgradeTimes;
};

const done: Answer = { kind: "done" };

export class Upgrader {
  readonly #deps: UpgraderDeps;
  readonly #wakeup: Wakeup;
  readonly #launchers: LauncherUpgrade;
  readonly #store: UpgradeStore;
  readonly #startedAt: number;
  /** Sandboxes that this daemon removed since the running ones were last listed. */
  readonly #removed = new Set<string>();
  readonly #recalled = Promise.withResolvers<void>();
  readonly #interrupted = Promise.withResolvers<Answer>();
  /** Rejects when {@link run} ends. */
  readonly #ended = Promise.withResolvers<never>();
  #build: Build;
  #phase: Phase;
  #refused: string | undefined;
  #heardAt: number | undefined;

  constructor(deps: UpgraderDeps) {
    const { clock, own, reconciler, host } = deps;
    this.#deps = deps;
    this.#build = own;
    this.#wakeup = new Wakeup(clock);
    this.#startedAt = clock.monotonic();
    this.#store = new UpgradeStore(deps);
    const sandboxes = () => this.#store.state.current?.sandboxes ?? [];
    this.#launchers = new LauncherUpgrade({ ...deps, sandboxes, hold: host.hold });
    const start = decideAtStart(this.#store.state, this.#store.record, own.path, host.bootId);
    this.#phase = { kind: "boot", start };
    this.#ended.promise.catch(() => {});
    if (start.kind !== "idle") void reconciler.pause(PAUSE_MS_MAX);
  }

  /** Something may have changed. */
  mark(): void {
    if (this.#deps.isOnline()) this.#recalled.resolve();
    this.#wakeup.mark();
  }

  /**
   * This daemon removes a sandbox for a reason outside the upgrade. Called before and after, so that no daemon takes
   * the missing sandbox for a fault of the new build.
   */
  removes(principal: string): void {
    this.#removed.add(principal);
    const { state } = this.#store;
    const { current } = state;
    if (current?.sandboxes.includes(principal) !== true) return;
    const sandboxes = current.sandboxes.filter((one) => one !== principal);
    this.#store.set({ ...state, current: { ...current, sandboxes } });
    // A full disk must not keep a sandbox from being removed.
    this.#store.writeLeft();
  }

  get content(): MachineVersion {
    return machineBuild(this.#store.state, this.#build, this.#launchers.seen);
  }

  /** The input of {@link next}, for `bureau debug`. */
  get debug(): object {
    return { disk: this.#store.state, phase: this.#phase, record: this.#store.record };
  }

  /** Resolves when {@link content} is complete: from then on it may replace the content of the room. */
  get recalled(): Promise<void> {
    return this.#recalled.promise.then(() => {
      const said = this.#deps.said();
      if (said === undefined) return;
      this.#store.set(recalled(this.#store.state, said));
      this.#store.writeLeft();
    });
  }

  /** This build is on trial: its view of the machine may be wrong. */
  get isOnTrial(): boolean {
    const { current } = this.#store.state;
    return current?.daemon_changes === true && current.request.path === this.#deps.own.path;
  }

  /**
   * On trial, this daemon learned that its machine no longer belongs to a fleet. Only the old build's view of that
   * counts, so this rolls back to it. Ends this program.
   */
  doubt(error: unknown): Promise<never> {
    this.#refused ??= messageOf(error);
    this.#interrupted.resolve(done);
    return this.#ended.promise;
  }

  /** The daemon must stop: the record tells the next one that the stop cut off the request under way. */
  stopped(): void {
    const { log } = this.#deps;
    if (!this.isOnTrial) return;
    try {
      this.#store.writeRecord({ reason: "it was stopped", blames: "stop" });
    } catch (error) {
      log.error("upgrade.stop-unrecorded", "cannot record that this daemon was stopped", { error });
    }
  }

  /** Works until `signal` aborts. @throws when this daemon must end because it cannot roll back */
  async run(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => {
      this.#recalled.resolve();
      this.mark();
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await this.#work(signal);
      this.#ended.reject(new Error("the daemon stopped"));
    } catch (error) {
      this.#ended.reject(error);
      throw error;
    }
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    for (let answer = done; ; ) {
      const state = { disk: this.#store.state, build: this.#build, phase: this.#phase };
      const now = { wall: clock.now(), monotonic: clock.monotonic() };
      const step = next(state, this.#see(answer, signal), now);
      this.#phase = step.state.phase;
      this.#build = step.state.build;
      this.#store.set(step.state.disk);
      answer = await this.#performAll(step.effects, signal);
      if (step.end?.reason !== undefined) throw new Error(step.end.reason);
      if (step.end !== undefined) return;
    }
  }

  #see(answer: Answer, signal: AbortSignal): Seen {
    const { wanted, said, isOnline, isAway, isEchoed, times } = this.#deps;
    return {
      answer,
      wanted: wanted(),
      said: said(),
      record: this.#store.record,
      isOnline: isOnline(),
      isAway: isAway(),
      isEchoed: isEchoed(),
      isStopping: signal.aborted,
      refused: this.#refused,
      hasEndedDaemon: this.#launchers.seen?.ended_daemon !== undefined,
      heardAt: this.#heardAt,
      startedAt: this.#startedAt,
      times,
    };
  }

  /** Performs effects; returns the answer of the last, or of the first that failed. {@link doubt} interrupts it. */
  async #performAll(effects: readonly Effect[], signal: AbortSignal): Promise<Answer> {
    const wasRefused = this.#refused !== undefined;
    const isLeft = (): boolean => !wasRefused && this.#refused !== undefined;
    let answer = done;
    for (const effect of effects) {
      if (isLeft()) return done;
      const work = this.#perform(effect, signal).catch(
        (error: unknown): Answer => ({ kind: "failed", reason: messageOf(error) }),
      );
      answer = wasRefused ? await work : await Promise.race([work, this.#interrupted.promise]);
      if (answer.kind === "failed") return answer;
    }
    return answer;
  }

  async #perform(effect: Effect, signal: AbortSignal): Promise<Answer> {
    const { clock, log, notify, reconciler } = this.#deps;
    switch (effect.kind) {
      case "log":
        log[effect.level](effect.event, effect.text, effect.fields);
        return done;
      case "notify":
        notify(effect.message);
        return done;
      case "pause":
        return { kind: "paused", isQuiet: await reconciler.pause(PAUSE_MS_MAX) };
      case "resume":
        reconciler.resume();
        return done;
      case "sleep":
        await clock.sleep(effect.ms, signal);
        return done;
      case "wait":
        await this.#wakeup.wait(this.#store.isWritten ? undefined : clock.monotonic() + WRITE_AGAIN_MS);
        return done;
      case "save":
      case "write-left":
      case "write-record":
      case "clear-record":
        return this.#write(effect);
      case "replace":
      case "replace-by-previous":
        return { kind: "not-replaced", reason: await this.#replace(effect) };
      case "keep-builds":
      case "fetch":
      case "check":
      case "read-build":
      case "move-boot-link":
      case "return-boot-link":
        return await this.#onHost(effect, signal);
      default:
        return await this.#atLauncher(effect, signal);
    }
  }

  #write(effect: EffectOf<"save" | "write-left" | "write-record" | "clear-record">): Answer {
    if (effect.kind === "write-record") this.#store.writeRecord(effect.why);
    else if (effect.kind === "clear-record") this.#store.clearRecord();
    else if (effect.kind === "save" && effect.required) this.#store.write();
    else this.#store.writeLeft();
    return done;
  }

  async #replace(effect: EffectOf<"replace" | "replace-by-previous">): Promise<string> {
    const { become } = this.#deps;
    if (effect.kind === "replace")
      return await become(effect.path, {
        last: async () => {
          // Not earlier: a build that was never executed would look like one that ended.
          this.#store.writeRecord({});
          await this.#launchers.watch(effect.watchMs);
        },
      });
    const { request_id = "" } = this.#store.state.current?.request ?? {};
    const env = effect.told === undefined ? {} : wentBackVariable({ request_id, ...effect.told });
    return await become(effect.path, { env, leavesMessages: true });
  }

  async #onHost(
    effect: EffectOf<
      "keep-builds" | "fetch" | "check" | "read-build" | "move-boot-link" | "return-boot-link"
    >,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { host, cache } = this.#deps;
    switch (effect.kind) {
      case "keep-builds":
        await this.#keepBuilds(effect.paths);
        return done;
      case "fetch":
        return { kind: "fetched", path: await host.fetchBuild(effect.path, { cache: cache(), signal }) };
      case "check":
        return { kind: "build", build: await host.checkBuild(effect.path, effect.asked, effect.running) };
      case "read-build":
        return { kind: "build", build: host.readBuild(effect.path) };
      case "move-boot-link":
        host.moveBootLink(effect.to);
        return done;
      case "return-boot-link":
        if (host.isBootedFrom(effect.from)) host.moveBootLink(effect.to);
        return done;
    }
  }

  /**
   * Keeps in the Nix store: the running build, the one to roll back to, and earlier builds that sandboxes still use.
   */
  async #keepBuilds(paths: readonly string[]): Promise<void> {
    const { host, own } = this.#deps;
    const wanted = [own.path, ...paths, this.#launchers.seen?.programs_dir].filter(
      (path) => path !== undefined,
    );
    if (!host.needsKeeping(wanted)) return;
    const used = await this.#launchers.programsInUse();
    await host.keepBuilds([...wanted, ...(used ?? [])], used !== undefined);
  }

  async #atLauncher(effect: AtLauncher, signal: AbortSignal): Promise<Answer> {
    const { clock, changed } = this.#deps;
    switch (effect.kind) {
      case "look":
        await this.#launchers.look();
        changed();
        return done;
      case "list-running":
        return { kind: "running", sandboxes: await this.#listRunning() };
      case "watch":
        await this.#launchers.watch(effect.ms);
        return done;
      case "renew-watch":
        if (await this.#launchers.isWatching(SILENCE_MS_MAX)) this.#heardAt = clock.monotonic();
        return done;
      case "unwatch":
        void this.#launchers.unwatch(signal);
        return done;
      case "check-launcher":
        return { kind: "launcher", fault: await this.#launchers.fault(effect.path) };
      case "change-launcher": {
        const fault = await this.#launchers.change(effect.path, effect.requestId);
        changed();
        return { kind: "launcher", fault };
      }
      case "take-launcher-back":
        await this.#launchers.takeBack(effect.path, effect.previous, effect.requestId);
        return done;
      case "end-hung-launcher":
        this.#launchers.endIfHung();
        return done;
    }
  }

  /** Without the sandboxes that this daemon removes meanwhile. */
  async #listRunning(): Promise<readonly string[] | undefined> {
    this.#removed.clear();
    const running = await this.#launchers.running();
    return running?.filter((principal) => !this.#removed.has(principal));
  }
}

type EffectOf<Kind extends Effect["kind"]> = Extract<Effect, { readonly kind: Kind }>;
type AtLauncher = EffectOf<
  | "look"
  | "list-running"
  | "watch"
  | "renew-watch"
  | "unwatch"
  | "check-launcher"
  | "change-launcher"
  | "take-launcher-back"
  | "end-hung-launcher"
>;
