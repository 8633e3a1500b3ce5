/**
 * New programs in the place of old ones, while everything in sandboxes goes on. One request at a time, step by step:
 *
 * ```
 * prefetch ─ check ─ daemon: exec, prove ─ launcher: exec, prove ─ both: soak ─ confirm: the boot link moves
 * ```
 *
 * The boot link moves only at the end, so whatever is started after any crash is the last version that was known to
 * work; it reads how far the other one came, and says so. A request that failed is never tried again.
 *
 * While a launcher has not shown that it knows every sandbox nothing is started or stopped: to one that has forgotten
 * them, what runs would have to be started anew, over what runs.
 */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import type { BackoffPolicy } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import {
  contentOf,
  contentOfAll,
  type HostEnvironment,
  leadsTo,
  moveBootLink,
  readHostEnvironment,
} from "@bureau/os/host-environment";
import type { Layout } from "@bureau/os/layout";
import { formatsIn } from "@bureau/os/state-format";
import { bootId, wentBackVariable } from "@bureau/os/watchdog-record";
import type { FleetCache, MachineVersion, UpgradeStep } from "@bureau/schema/events";
import { type EventMessage, eventMessage } from "../event-messages/event-message.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import { Wakeup } from "../wakeup.ts";
import { type BecomeOptions, PAUSE_MS_MAX, tooBusy } from "./become.ts";
import { CUT_OFF_MAX, decideAtStart, ENDED, type Start } from "./decide.ts";
import { LauncherUpgrade, silent } from "./launcher-upgrade.ts";
import { machineVersion } from "./machine-build.ts";
import { hasStorePaths, keepStorePaths } from "./nix-store.ts";
import { checkEnvironment, prefetch } from "./prepare.ts";
import { UpgradeMemory } from "./upgrade-store.ts";
import { cutOff, isSettled, type Outcome, settled, type UpgradeRequest } from "./upgrade-state.ts";
import type { UpgradeTimes } from "./upgrade-times.ts";

const PROGRAM = "bureau-daemon";
const POLL_MS = 250;
/** Between two attempts to write down what a full disk did not take. */
const WRITE_AGAIN_MS = 15_000;
/** A connection may drop without anybody's fault; a homeserver that is restarted is back within seconds. */
export const OFFLINE_MS_MAX = 8_000;
/** So that a homeserver that is back in time is also found in time. */
export const trialBackoff: BackoffPolicy = { firstMs: 250, maxMs: 1_000 };
/** While it soaks a new daemon says this often that it works, and is ended when it has not for {@link SILENCE_MS_MAX}. */
const ALIVE_MS = 4_000;
const SILENCE_MS_MAX = 15_000;

export type UpgraderDeps = {
  readonly layout: Layout;
  /** What this daemon runs from. */
  readonly own: HostEnvironment;
  /** The link that programs are started through. */
  readonly bootLink: string;
  readonly launcher: Launcher;
  /** The version asked for in the machine's configuration, as it is now. */
  readonly wanted: () => UpgradeRequest | undefined;
  /** Where the fleet's store paths come from. */
  readonly cache: () => FleetCache | undefined;
  readonly isOnline: () => boolean;
  /** The homeserver was asked and did not answer. */
  readonly isAway: () => boolean;
  /** What this machine's room says of its versions. */
  readonly said: () => MachineVersion | undefined;
  /** The event that says which versions run has come back through /sync. */
  readonly isEchoed: () => boolean;
  /** What the machine says of its versions has changed. */
  readonly changed: () => void;
  readonly notify: (message: EventMessage) => void;
  /**
   * Executes that version in this one's place. Returns only when that failed, with the reason; then this one goes on.
   */
  readonly become: (path: string, options?: BecomeOptions) => Promise<string>;
  /** Who starts and stops sandboxes; never while it is not certain that the launcher knows all that run. */
  readonly reconciler: Pick<Reconciler, "pause" | "resume">;
  readonly times: UpgradeTimes;
  readonly clock: Clock;
  readonly log: Log;
};

/** What is wrong with the new version. */
type Failure = { readonly reason: string; readonly blames: "program" | "homeserver" };

const newLauncher = (fault: string): Failure => ({ reason: `the new launcher: ${fault}`, blames: "program" });

export class Upgrader {
  readonly #deps: UpgraderDeps;
  readonly #wakeup: Wakeup;
  readonly #launchers: LauncherUpgrade;
  readonly #memory: UpgradeMemory;
  readonly #start: Start;
  readonly #startedAt: number;
  /** Since it was last noted what runs. */
  readonly #removed = new Set<string>();
  readonly #recalled = Promise.withResolvers<void>();
  /**
   * The version of this machine: what this daemon was started from, or one that only differs in other programs and was
   * confirmed since.
   */
  #own: HostEnvironment;
  #goingBack: Promise<never> | undefined;

  constructor(deps: UpgraderDeps) {
    const { clock, own, reconciler } = deps;
    this.#deps = deps;
    this.#own = own;
    this.#wakeup = new Wakeup(clock);
    this.#startedAt = clock.monotonic();
    this.#memory = new UpgradeMemory(deps);
    const sandboxes = () => this.#memory.state.current?.sandboxes ?? [];
    this.#launchers = new LauncherUpgrade({ ...deps, sandboxes });
    this.#start = decideAtStart(this.#memory.state, this.#memory.record, own.path, bootId());
    if (this.#start.kind !== "idle") void reconciler.pause(PAUSE_MS_MAX);
  }

  /** Something may have changed. */
  mark(): void {
    if (this.#deps.isOnline()) this.#recalled.resolve();
    this.#wakeup.mark();
  }

  /**
   * This daemon removes a sandbox, for a reason of its own: told before and after, so that its being gone is not taken for
   * a fault of the new version, by whichever daemon looks.
   */
  removes(principal: string): void {
    this.#removed.add(principal);
    const { state } = this.#memory;
    const { current } = state;
    if (current?.sandboxes.includes(principal) !== true) return;
    const sandboxes = current.sandboxes.filter((one) => one !== principal);
    // A full disk is no reason to keep a sandbox.
    this.#memory.conclude({ ...state, current: { ...current, sandboxes } });
  }

  get content(): MachineVersion {
    return machineVersion(this.#memory.state, this.#own, this.#launchers.seen);
  }

  /** Resolves when {@link content} is all that this machine knows: what its room says it is from then on free to replace. */
  get recalled(): Promise<void> {
    return this.#recalled.promise.then(() => this.#memory.recall(this.#deps.said()));
  }

  /** Works until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => {
      this.#recalled.resolve();
      this.mark();
    };
    signal.addEventListener("abort", onAbort, { once: true });
    await this.#launchers.look();
    await this.#goOn(this.#start, signal);
    while (!signal.aborted) {
      await this.#launchers.look();
      this.#memory.writeLeft();
      this.#deps.changed();
      await this.#keepVersions();
      const { clock } = this.#deps;
      const wanted = this.#next();
      if (wanted !== undefined) await this.#upgrade(wanted, signal);
      else await this.#wakeup.wait(this.#memory.isWritten ? undefined : clock.monotonic() + WRITE_AGAIN_MS);
    }
  }

  /** The request whose turn it is. */
  #next(): UpgradeRequest | undefined {
    const { wanted, isOnline, said } = this.#deps;
    if (!isOnline()) return undefined;
    this.#memory.recall(said());
    const request = wanted();
    return request === undefined || isSettled(this.#memory.state, request.request_id) ? undefined : request;
  }

  /** This is a version that has not shown yet that it works: nobody may rely on what it believes. */
  get isOnTrial(): boolean {
    const { current } = this.#memory.state;
    return current?.daemon_changes === true && current.request.path === this.#deps.own.path;
  }

  /**
   * On trial, this daemon was told that its machine belongs to no fleet any more. Only the version from before is
   * believed that: it is asked. Ends this program.
   */
  doubt(error: unknown): Promise<never> {
    return this.#goBack({ reason: `the homeserver refused it: ${messageOf(error)}`, blames: "homeserver" });
  }

  /** The daemon is told to stop: what is under way was cut off by that, whatever starts next. */
  stopped(): void {
    const { log } = this.#deps;
    if (!this.isOnTrial) return;
    try {
      this.#memory.writeRecord({ reason: "it was told to stop", blames: "stop" });
    } catch (error) {
      log.error("upgrade.stop-unrecorded", "cannot write down that this daemon was told to stop", { error });
    }
  }

  /** What was under way when this daemon started. */
  async #goOn(start: Start, signal: AbortSignal): Promise<void> {
    if (start.kind === "idle") return this.#recogniseBoot();
    this.#deps.log.info("upgrade.resumed", "a change of versions is under way", start);
    // It watches this very process, which is the version before again when the new one went back by itself.
    if (start.kind !== "prove") void this.#launchers.unwatch(signal);
    switch (start.kind) {
      case "again":
        await this.#again(start.counts);
        break;
      case "judge":
        await this.#judge(start.reason, signal);
        break;
      case "rolled-back":
        await this.#rolledBack(await this.#explain(start.reason));
        break;
      default:
        this.#countResumed(start.kind);
        await this.#finish(start.kind, signal);
    }
    this.#deps.reconciler.resume();
  }

  /** A launcher that brings down a daemon which did not change is found out by that. */
  #countResumed(kind: Start["kind"]): void {
    const { state } = this.#memory;
    const { current } = state;
    if (kind !== "launcher" || current === undefined || current.daemon_changes) return;
    // What a full disk does not take is counted all the same, for as long as this daemon lives.
    this.#memory.conclude({ ...state, current: { ...current, resumed: (current.resumed ?? 0) + 1 } });
  }

  /** What runs, what would be gone back to, and what sandboxes still use of earlier versions stays in the Nix store. */
  async #keepVersions(): Promise<void> {
    const { own, bootLink, log } = this.#deps;
    const { confirmed, previous, current } = this.#memory.state;
    const versions = [
      own.path,
      this.#own.path,
      confirmed?.path,
      previous,
      current?.request.path,
      current?.from,
    ];
    const wanted = [...versions, this.#launchers.seen?.programs_dir].filter((path) => path !== undefined);
    if (!hasStorePaths(bootLink, wanted)) return;
    const used = await this.#launchers.programsInUse();
    await keepStorePaths({
      ...{ bootLink, log, wanted: [...wanted, ...(used ?? [])], isComplete: used !== undefined },
    });
  }

  /** Nothing is under way: whatever was started is what is to be started again. */
  #recogniseBoot(): void {
    const { own } = this.#deps;
    const { state } = this.#memory;
    this.#memory.clearRecord();
    if (state.confirmed?.path === own.path) return;
    this.#memory.conclude({ ...state, confirmed: { path: own.path, version: own.version } });
  }

  async #upgrade(request: UpgradeRequest, signal: AbortSignal): Promise<void> {
    const { log, reconciler } = this.#deps;
    log.info("upgrade.requested", "another version is asked for", {
      path: request.path,
      request: request.request_id,
    });
    let next: HostEnvironment | undefined;
    try {
      next = await this.#prepare(request, signal);
    } catch (error) {
      // What is cut off is taken up by the next daemon.
      if (signal.aborted) return;
      return this.#settle({ outcome: "refused", reason: messageOf(error) });
    }
    if (next === undefined) return;
    if (contentOf(next, PROGRAM) !== contentOf(this.#own, PROGRAM))
      return await this.#becomeNext(next, signal);
    await this.#finish("launcher", signal);
    reconciler.resume();
  }

  /** Undefined when it has come to its end already, or this daemon is being stopped. @throws what refuses it */
  async #prepare(request: UpgradeRequest, signal: AbortSignal): Promise<HostEnvironment | undefined> {
    const { clock } = this.#deps;
    const own = this.#own;
    const { cut_off: before } = this.#memory.state;
    this.#memory.advance({
      ...this.#memory.state,
      current: {
        ...{ request, step: "prefetch", started_at: clock.now(), from: own.path },
        ...{ daemon_changes: false, sandboxes: [] },
      },
    });
    if (before?.request_id === request.request_id && before.count >= CUT_OFF_MAX)
      throw new BureauError("conflict", `it was cut off ${before.count} times`);
    const path = await prefetch(request.path, {
      ...{ bootLink: this.#deps.bootLink, cache: this.#deps.cache(), signal },
    });
    this.#step("check", { ...request, path });
    const { stateDir, runDir } = this.#deps.layout;
    const formats = [...formatsIn(stateDir), ...formatsIn(runDir)];
    const next = await checkEnvironment(path, {
      ...{ asked: request.path, running: own, formats, layout: this.#deps.layout },
    });
    const { current } = this.#memory.state;
    if (current === undefined || signal.aborted) return undefined;
    if (contentOfAll(next) === contentOfAll(own)) {
      this.#nothingToDo(next);
      return undefined;
    }
    this.#removed.clear();
    const running = await this.#launchers.running();
    if (running === undefined) throw new BureauError("unavailable", "the launcher does not answer");
    const sandboxes = running.filter((principal) => !this.#removed.has(principal));
    const daemonChanges = contentOf(next, PROGRAM) !== contentOf(own, PROGRAM);
    this.#memory.advance({
      ...this.#memory.state,
      current: {
        ...{ ...current, sandboxes, version: next.version, daemon_changes: daemonChanges },
        step: daemonChanges ? "daemon" : "launcher",
      },
    });
    return next;
  }

  /** The same content, perhaps under another path: nothing is touched. */
  #nothingToDo(next: HostEnvironment): void {
    const { state } = this.#memory;
    const { confirmed, previous } = state;
    const done = settled(
      state,
      { outcome: "succeeded", content: contentOfAll(next) },
      this.#deps.clock.now(),
    );
    const { confirmed: _, previous: __, ...rest } = done;
    this.#memory.conclude({
      ...rest,
      ...(confirmed === undefined ? {} : { confirmed }),
      ...(previous === undefined ? {} : { previous }),
    });
  }

  /** Ends this program unless the next cannot be executed. */
  async #becomeNext(next: HostEnvironment, signal: AbortSignal): Promise<void> {
    const { notify, times, log } = this.#deps;
    const { path } = next;
    const own = this.#own;
    notify(eventMessage.selfUpdate(own.path, path, "in_progress"));
    let reason: string;
    try {
      reason = await this.#deps.become(path, {
        last: async () => {
          // Not before: whoever starts next would take what was never executed for what ended.
          this.#memory.writeRecord({});
          await this.#launchers.watch(times.proof + times.margin);
        },
      });
    } catch (error) {
      reason = messageOf(error);
    }
    // Told to stop before it was executed: the next daemon takes the request up again.
    if (signal.aborted) return this.#memory.clearRecord();
    log.error("upgrade.exec-failed", "this daemon goes on: it could not be replaced", { reason });
    void this.#launchers.unwatch(signal);
    notify(eventMessage.selfUpdate(own.path, path, "failed", reason));
    this.#settle({ outcome: "refused", reason, content: contentOfAll(next) });
  }

  /** The new version's way from where it is to its end, and back should it fail. */
  async #finish(from: "prove" | "launcher" | "confirm", signal: AbortSignal): Promise<void> {
    let failure: Failure | undefined;
    try {
      failure = await this.#proveAll(from, signal);
    } catch (error) {
      failure = { reason: messageOf(error), blames: "program" };
    }
    if (failure === undefined || signal.aborted) return;
    this.#launchers.endIfHung();
    if (this.#memory.state.current?.daemon_changes === true) await this.#goBack(failure);
    else await this.#rolledBack(failure.reason);
  }

  /** Undefined when nothing failed, or this daemon is being stopped. */
  async #proveAll(from: "prove" | "launcher" | "confirm", signal: AbortSignal): Promise<Failure | undefined> {
    let failure: Failure | undefined;
    if (from === "prove") failure = await this.#proveDaemon(signal);
    if (from !== "confirm" && failure === undefined && !signal.aborted)
      failure = (await this.#changeLauncher(signal)) ?? (await this.#soak(signal));
    if (signal.aborted) return undefined;
    if (failure === undefined) this.#confirm();
    return failure;
  }

  /** This is the new daemon. */
  async #proveDaemon(signal: AbortSignal): Promise<Failure | undefined> {
    const { clock, times, isOnline, isEchoed, reconciler } = this.#deps;
    if (this.#memory.record === undefined) this.#memory.writeRecord({});
    const deadline = this.#startedAt + times.proof;
    this.#deps.changed();
    for (;;) {
      if (signal.aborted) return undefined;
      const fault = await this.#launchers.fault();
      if (fault === undefined && isOnline() && isEchoed()) break;
      if (clock.monotonic() > deadline) {
        const seconds = times.proof / 1_000;
        if (fault !== undefined) return { reason: `${fault}, for ${seconds} s`, blames: "program" };
        return { reason: `the new daemon was not in sync within ${seconds} s`, blames: "homeserver" };
      }
      await clock.sleep(POLL_MS, signal);
    }
    reconciler.resume();
    return undefined;
  }

  async #changeLauncher(signal: AbortSignal): Promise<Failure | undefined> {
    const { times, reconciler } = this.#deps;
    const { current } = this.#memory.state;
    if (current === undefined) return undefined;
    if (current.step !== "launcher") this.#step("launcher");
    const { request } = current;
    if (!(await reconciler.pause(PAUSE_MS_MAX))) return { reason: tooBusy, blames: "program" };
    // A launcher that is being replaced cannot be told that this daemon works, and need not be for as long.
    if (current.daemon_changes)
      await this.#launchers.watch(times.launcherProof + times.margin + SILENCE_MS_MAX);
    const fault = await this.#launchers.change(request.path, request.request_id);
    this.#deps.changed();
    if (fault !== undefined) return newLauncher(fault);
    if (!signal.aborted) reconciler.resume();
    return undefined;
  }

  /** All of the new version runs, and for a while nothing of it may fail. */
  async #soak(signal: AbortSignal): Promise<Failure | undefined> {
    const { clock, times, isOnline } = this.#deps;
    const { current } = this.#memory.state;
    if (current === undefined) return undefined;
    const changes = current.daemon_changes;
    const end = clock.monotonic() + (changes ? Math.max(times.soak, times.launcherSoak) : times.launcherSoak);
    let [offlineSince, silentSince]: (number | undefined)[] = [];
    const isOver = (): boolean =>
      clock.monotonic() >= end && offlineSince === undefined && silentSince === undefined;
    for (let aliveAt = 0; !isOver() && !signal.aborted; ) {
      const asked = clock.monotonic();
      const fault = await this.#launchers.fault(current.request.path);
      if (fault !== undefined && fault !== silent) return newLauncher(fault);
      // One that is slow has the time it had to prove itself; one that ended is told by the one that took its place.
      silentSince = fault === silent ? (silentSince ?? asked) : undefined;
      if (silentSince !== undefined && clock.monotonic() - silentSince > times.launcherProof)
        return newLauncher(silent);
      // A launcher has no network: who changed nothing but that is not at fault when the homeserver goes away.
      offlineSince = changes && !isOnline() ? (offlineSince ?? clock.monotonic()) : undefined;
      if (offlineSince !== undefined && clock.monotonic() - offlineSince > OFFLINE_MS_MAX)
        return { reason: "the homeserver could not be reached any more", blames: "homeserver" };
      if (changes && silentSince === undefined && clock.monotonic() >= aliveAt) {
        if (await this.#launchers.isWatching(SILENCE_MS_MAX)) aliveAt = clock.monotonic() + ALIVE_MS;
      }
      await clock.sleep(POLL_MS, signal);
    }
    if (changes) void this.#launchers.unwatch(signal);
    return undefined;
  }

  /** From here on the new version is what is started. Done twice it is the same. */
  #confirm(): void {
    const { bootLink, clock, notify, log } = this.#deps;
    const { current } = this.#memory.state;
    if (current === undefined) return;
    if (current.step !== "confirm") this.#step("confirm");
    const next = current.daemon_changes ? this.#own : readHostEnvironment(current.request.path);
    mkdirSync(dirname(bootLink), { recursive: true });
    moveBootLink(bootLink, current.request.path);
    this.#own = next;
    this.#memory.conclude(settled(this.#memory.state, { outcome: "succeeded" }, clock.now()));
    log.info("upgrade.confirmed", "the new version works, and is what is started from now on", {
      path: current.request.path,
    });
    if (current.daemon_changes)
      notify(eventMessage.selfUpdate(current.from, current.request.path, "succeeded"));
  }

  /**
   * The new daemon gives its place to the one before, which says why. Ends this program; should even that fail, so does
   * the daemon, and whoever looks after it starts the version that is known to work.
   */
  #goBack(failure: Failure): Promise<never> {
    this.#goingBack ??= this.#becomePrevious(failure);
    return this.#goingBack;
  }

  async #becomePrevious(failure: Failure): Promise<never> {
    const { log, become } = this.#deps;
    const { current } = this.#memory.state;
    if (current === undefined) throw new Error(failure.reason);
    log.error("upgrade.failed", "the new version does not work; going back", { reason: failure.reason });
    let told: Readonly<Record<string, string>> = {};
    try {
      this.#memory.writeRecord(failure);
    } catch (error) {
      log.error("upgrade.reason-unrecorded", "why it goes back cannot be written down, and is only told", {
        error,
      });
      told = wentBackVariable({ request_id: current.request.request_id, ...failure });
    }
    const errno = await become(current.from, { env: told, leavesMessages: true });
    throw new Error(`Cannot go back to "${current.from}": ${errno}`);
  }

  /**
   * The new version could not reach the homeserver. That is its fault if this one can straight away; one that is away for
   * this one too, or does not answer, says nothing about it, also when it is back a moment later: then the new version has
   * another turn.
   */
  async #judge(reason: string, signal: AbortSignal): Promise<void> {
    const { clock, times, isOnline, isAway } = this.#deps;
    const end = clock.monotonic() + times.judge;
    while (clock.monotonic() < end && !signal.aborted && !isAway()) {
      const isPrompt = clock.monotonic() - this.#startedAt <= OFFLINE_MS_MAX;
      if (isOnline()) return await (isPrompt ? this.#rolledBack(reason) : this.#again(true));
      await clock.sleep(POLL_MS, signal);
    }
    await this.#again(false);
  }

  /** This is the version from before, and it runs: launcher and boot link go back too, should they have come further. */
  async #rolledBack(reason: string): Promise<void> {
    const { notify, log, bootLink } = this.#deps;
    const { current } = this.#memory.state;
    const own = this.#own;
    if (current === undefined) return;
    log.error("upgrade.rolled-back", "the new version was taken back", {
      path: current.request.path,
      reason,
    });
    if (leadsTo(bootLink, current.request.path)) moveBootLink(bootLink, own.path);
    await this.#launchers.takeBack(current.request.path, own.path, current.request.request_id);
    if (current.daemon_changes)
      notify(eventMessage.selfUpdate(own.path, current.request.path, "failed", reason));
    this.#settle({ outcome: "rolled-back", reason });
  }

  /** A daemon that ended without a word may have been ended for being late. */
  async #explain(reason: string): Promise<string> {
    if (reason !== ENDED) return reason;
    const status = await this.#launchers.look();
    return status?.ended_daemon === undefined
      ? reason
      : "the new daemon did not answer in time, and was ended";
  }

  /** From its beginning, with the launcher it began with. */
  async #again(counts: boolean): Promise<void> {
    const { current } = this.#memory.state;
    if (current !== undefined && current.request.path !== this.#own.path)
      await this.#launchers.takeBack(current.request.path, this.#own.path, current.request.request_id);
    this.#memory.conclude(cutOff(this.#memory.state, counts));
  }

  #settle(outcome: Outcome): void {
    const { clock, log } = this.#deps;
    if (outcome.outcome === "refused")
      log.error("upgrade.refused", "the other version is refused", { reason: outcome.reason });
    this.#memory.conclude(settled(this.#memory.state, outcome, clock.now()));
  }

  #step(step: UpgradeStep, request?: UpgradeRequest): void {
    const { state } = this.#memory;
    const { current } = state;
    if (current === undefined) return;
    this.#memory.advance({ ...state, current: { ...current, step, request: request ?? current.request } });
  }
}
