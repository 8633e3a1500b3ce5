/**
 * The upgrades of a simulated machine: the real upgrader between a disk, a boot link, a launcher and an exec that are
 * played. Daemons die at any effect; the disk is full for a while; the host's clock is set. Checked at every effect: the
 * boot link leads to a build that works, and a request that failed is not tried again. Checked when the world is calm: the
 * request has a result, and boot link, daemon, launcher and state agree on one build.
 */
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { RoomView } from "@bureau/matrix/room-state";
import { contentOf, contentOfAll } from "@bureau/os/build";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { WatchdogRecord } from "@bureau/os/watchdog-record";
import type { BureauVersion, MachineVersion } from "@bureau/schema/events";
import type { LauncherRequest } from "@bureau/schema/launcher-ipc";
import type { Launcher } from "../launcher/launcher-client.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import { PAUSE_MS_MAX, tooBusy } from "../upgrade/become.ts";
import type { UpgradeHost } from "../upgrade/upgrade-host.ts";
import { isFinished, noUpgrades, type UpgradeState } from "../upgrade/upgrade-state.ts";
import { upgradeTimes } from "../upgrade/upgrade-times.ts";
import { Upgrader } from "../upgrade/upgrader.ts";
import { wantedBuild } from "../upgrade/wanted-build.ts";
import type { SeededRandom } from "./seeded-random.ts";
import { badBuilds, buildAt, firstBuild, goodBuilds, type SimulatedBuild } from "./simulated-builds.ts";
import type { TurnedClock } from "./turned-clock.ts";

const PUBLISH_MS = 500;
/** While nothing changes. */
const PUBLISH_IDLE_MS = 5_000;
/** A call to a launcher that hangs ends after it. */
const HANG_MS = 5_000;
/** The service manager ends a launcher that hangs for so long. */
const WATCHDOG_MS = 30_000;
/** A launcher that exits does so within it. */
const EXIT_MS_MAX = 6_000;
/** Between the last list of what runs and the exec; a request of a daemon that died may be carried out meanwhile. */
const BRIEF_MS = 3_000;
const RESTART_MS_MAX = 3_000;
/** At an effect. */
const CRASH_CHANCE = 0.004;
/** An older watchdog record says nothing (wire facts, section 12.1). */
const RECORD_AGE_MS_MAX = 300_000;
const CLOCK_JUMP_MS_MAX = 3_600_000;

export type SimulatedUpgradesDeps = {
  readonly clock: TurnedClock;
  readonly random: SeededRandom;
  readonly isHomeserverUp: () => boolean;
  /** As SIGKILL would. */
  readonly killDaemon: () => void;
  /** Starts a daemon of that build, unless one runs. */
  readonly startDaemon: (path: string) => void;
  readonly onViolation: (text: string) => void;
  /** For a person who reads a failure. */
  readonly onEvent: (text: string) => void;
  /** When each sandbox that runs was started. */
  readonly startedAt: () => readonly number[];
  /** The configuration has another `bureau_version`. */
  readonly onWanted: () => void;
};

export type SimulatedDaemonParts = {
  readonly path: string;
  readonly key: string;
  readonly isDead: () => boolean;
  readonly view: () => RoomView | undefined;
  readonly launcher: Launcher;
  readonly reconciler: Pick<Reconciler, "pause" | "resume">;
  readonly signal: AbortSignal;
};

export class SimulatedUpgrades {
  readonly #deps: SimulatedUpgradesDeps;
  /** How often requests came to which end. */
  readonly outcomes = new Map<string, number>();
  wanted: BureauVersion | undefined;
  bootLink: string = firstBuild.path;
  #launcherFrom: string = firstBuild.path;
  #launcherSince = 0;
  /** Launchers that ran so far. */
  #launchers = 0;
  #execFault: string | undefined;
  #endedDaemon = false;
  #daemonFrom = firstBuild.path;
  /** A daemon keeps it when it executes another build. */
  #pid = 1;
  #watch: { readonly pid: number } | undefined;
  #disk: UpgradeState = noUpgrades;
  #record: WatchdogRecord | undefined;
  /** What the version that goes back could not write. */
  #told: Readonly<Record<string, string>> = {};
  #isFull = false;
  #boot = 1;
  #said: MachineVersion | undefined;
  #requests = 0;
  /** The host's clock is ahead of the true time by so much. */
  #clockAheadMs = 0;
  #isCalm = false;

  constructor(deps: SimulatedUpgradesDeps) {
    this.#deps = deps;
  }

  events(): readonly (readonly [weight: number, name: string, act: () => void])[] {
    const { random } = this.#deps;
    return [
      [3, "another build is wanted", () => this.#want(random.chance(0.4) ? goodBuilds : badBuilds)],
      [1, "the same build is wanted again", () => this.#want([buildAt(this.#wantedPath)])],
      [1, "the disk is full or has room", () => (this.#isFull = !this.#isFull && random.chance(0.5))],
      [2, "the clock is set", () => (this.#clockAheadMs = random.below(CLOCK_JUMP_MS_MAX))],
    ];
  }

  get #wantedPath(): string {
    return this.wanted?.host_environment_path ?? this.bootLink;
  }

  #want(builds: readonly SimulatedBuild[]): void {
    const path = this.#deps.random.pick(builds)?.path ?? firstBuild.path;
    this.wanted = {
      daemon_store_path: `${path}/bin/bureau-daemon`,
      launcher_store_path: `${path}/bin/bureau-launcher`,
      proxy_store_path: `${path}/bin/bureau-proxy`,
      host_environment_path: path,
      request_id: `r${++this.#requests}`,
    };
    this.#deps.onWanted();
  }

  reboot(): void {
    this.#boot++;
    this.#pid++;
    this.#watch = undefined;
    this.#restartLauncher();
  }

  /** The launcher goes down; it will be started from the boot link. */
  launcherDown(): void {
    this.#restartLauncher();
  }

  /** From now on nothing fails but bad builds. Returns what is to be asked at the end of the calm. */
  calm(): () => void {
    const { random } = this.#deps;
    this.#isCalm = true;
    this.#isFull = false;
    const last = random.below(3);
    if (last > 0) this.#want(last === 1 ? goodBuilds : badBuilds);
    const asked = last > 0 ? this.wanted : undefined;
    return () => {
      this.#compare(asked);
      this.#isCalm = false;
    };
  }

  #compare(asked: BureauVersion | undefined): void {
    const { current } = this.#disk;
    if (current !== undefined) this.#fault("a request is under way");
    else {
      this.#compareMachine();
      if (asked !== undefined) this.#compareResult(asked);
    }
  }

  #fault(text: string): void {
    this.#deps.onViolation(`upgrade after the calm: ${text}; ${JSON.stringify(this.#disk)}`);
  }

  /** Boot link, state, launcher, daemon and room agree. */
  #compareMachine(): void {
    const { confirmed, history } = this.#disk;
    const booted = buildAt(this.bootLink);
    if (confirmed?.path !== booted.path)
      this.#fault(`the state says ${confirmed?.path}, boots ${booted.path}`);
    if (this.#launcherFrom !== booted.path) this.#fault(`the launcher is of ${this.#launcherFrom}`);
    const daemon = contentOf(buildAt(this.#daemonFrom), "bureau-daemon");
    if (daemon !== contentOf(booted, "bureau-daemon")) this.#fault(`the daemon is of ${this.#daemonFrom}`);
    if (canonicalJson(this.#said?.history) !== canonicalJson(history))
      this.#fault(`its room says ${JSON.stringify(this.#said)}`);
  }

  #compareResult({ request_id: id = "", host_environment_path: path = "" }: BureauVersion): void {
    const [result] = this.#disk.history.filter(({ request_id }) => request_id === id);
    if (!isFinished(this.#disk, id) || result === undefined) {
      this.#fault(`${id} has no result`);
      return;
    }
    const build = buildAt(path);
    const { outcome } = result;
    if (build.flaw === "none" && outcome !== "succeeded")
      this.#fault(`a good build ended so: ${JSON.stringify(result)}`);
    if (build.flaw === "none" && contentOfAll(build) !== contentOfAll(buildAt(this.bootLink)))
      this.#fault(`${path} is confirmed, and ${this.bootLink} boots`);
    if (build.flaw !== "none" && build.flaw !== "launcher forgets" && outcome === "succeeded")
      this.#fault(`${build.flaw}, and it succeeded`);
  }

  /** A daemon started; undefined when it does nothing at all. */
  start(parts: SimulatedDaemonParts): Upgrader | undefined {
    const { clock, startDaemon, killDaemon, random } = this.#deps;
    const { path, isDead, signal } = parts;
    const { flaw } = buildAt(path);
    this.#daemonFrom = path;
    this.#deps.onEvent(`a daemon of ${path} starts: ${flaw}`);
    const restart = (): void => {
      if (isDead()) return;
      killDaemon();
      this.#restartSoon(startDaemon);
    };
    if (flaw === "daemon hangs") return undefined;
    if (flaw === "daemon exits") {
      void clock.sleep(random.below(EXIT_MS_MAX)).then(restart);
    }
    const upgrader = this.#open(parts);
    void upgrader.run(signal).catch(restart);
    if (flaw === "daemon is refused" && upgrader.isOnTrial)
      void clock.sleep(random.below(2_000)).then(() => {
        if (!isDead()) void upgrader.doubt(new Error("M_UNKNOWN_TOKEN")).catch(() => {});
      });
    return upgrader;
  }

  /** The service manager starts what the boot link leads to. */
  #restartSoon(startDaemon: (path: string) => void): void {
    const { clock, random } = this.#deps;
    this.#pid++;
    void clock.sleep(random.below(RESTART_MS_MAX)).then(() => startDaemon(this.bootLink));
  }

  #open(parts: SimulatedDaemonParts): Upgrader {
    const { path, isDead, view, key, launcher, reconciler } = parts;
    const { flaw } = buildAt(path);
    const { isHomeserverUp } = this.#deps;
    const isDeaf = flaw === "daemon is deaf";
    const isOnline = (): boolean => isHomeserverUp() && !isDeaf && view() !== undefined;
    const upgrader: Upgrader = new Upgrader({
      clock: this.#hostClock(),
      log: silentLog,
      host: this.#host(isDead),
      own: buildAt(path),
      launcher: this.#crashing(launcher, isDead),
      reconciler,
      wanted: () => wantedBuild(view(), key),
      cache: () => undefined,
      isOnline,
      isAway: () => !isHomeserverUp() || isDeaf,
      said: () => this.#said,
      isEchoed: () => canonicalJson(this.#said ?? {}) === canonicalJson(upgrader.content),
      changed: () => {},
      notify: () => {},
      times: upgradeTimes("{}"),
      become: (next, options) => this.#become(next, parts, options),
    });
    void this.#publish(upgrader, isDead, isOnline);
    return upgrader;
  }

  /** The room gets what the daemon says, once that is all it knows. */
  async #publish(upgrader: Upgrader, isDead: () => boolean, isOnline: () => boolean): Promise<void> {
    const { clock } = this.#deps;
    let isRecalled = false;
    void upgrader.recalled.then(() => {
      isRecalled = true;
    });
    const isIdle = (): boolean => isRecalled && upgrader.content.state !== "upgrading";
    const pause = () => clock.sleep(isIdle() ? PUBLISH_IDLE_MS : PUBLISH_MS);
    for (let wasOnline = false; !isDead(); await pause()) {
      const online = isOnline();
      if (online !== wasOnline) upgrader.mark();
      wasOnline = online;
      if (!online || !isRecalled) continue;
      for (const { request_id, outcome } of upgrader.content.history)
        if (this.#said?.history.some((one) => one.request_id === request_id) !== true) {
          this.#deps.onEvent(`${request_id} ${outcome}`);
          this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
        }
      this.#said = upgrader.content;
    }
  }

  #hostClock(): Clock {
    const { clock } = this.#deps;
    return {
      now: () => clock.now() + this.#clockAheadMs,
      monotonic: () => clock.monotonic(),
      sleep: (ms, signal) => clock.sleep(ms, signal),
    };
  }

  /** The daemon may die here. */
  #crashPoint(isDead: () => boolean): void {
    const { random, killDaemon, startDaemon } = this.#deps;
    if (this.#isCalm || isDead() || !random.chance(CRASH_CHANCE)) return;
    killDaemon();
    this.#restartSoon(startDaemon);
  }

  #crashing(launcher: Launcher, isDead: () => boolean): Launcher {
    return {
      call: (action, request, options) => {
        this.#crashPoint(isDead);
        return launcher.call(action, request, options);
      },
    };
  }

  async #become(
    path: string,
    { isDead, reconciler }: SimulatedDaemonParts,
    options: Parameters<ConstructorParameters<typeof Upgrader>[0]["become"]>[1] = {},
  ): Promise<string> {
    const { killDaemon, startDaemon } = this.#deps;
    try {
      if (!(await reconciler.pause(PAUSE_MS_MAX))) return tooBusy;
      await options.last?.();
      this.#crashPoint(isDead);
      if (isDead()) return await never();
      if (buildAt(path).flaw === "daemon cannot be executed") return "ENOEXEC";
      this.#told = options.env ?? {};
      killDaemon();
      startDaemon(path);
      return await never();
    } finally {
      reconciler.resume();
    }
  }

  #host(isDead: () => boolean): UpgradeHost {
    const change = (act: () => void): void => {
      this.#crashPoint(isDead);
      if (isDead()) return;
      if (this.#isFull) throw new Error("ENOSPC: no space left on device, write");
      act();
      this.#crashPoint(isDead);
    };
    return {
      bootId: `boot-${this.#boot}`,
      readState: () => this.#disk,
      writeState: (state) => change(() => (this.#disk = state)),
      readRecord: (nowMs) => this.#readRecord(nowMs),
      writeRecord: (record) => change(() => (this.#record = record)),
      clearRecord: () => {
        if (!isDead()) this.#record = undefined;
      },
      isBootedFrom: (path) => this.bootLink === path,
      moveBootLink: (path) => change(() => this.#moveBootLink(path)),
      readBuild: buildAt,
      fetchBuild: async (path) => {
        this.#crashPoint(isDead);
        if (isDead()) return await never();
        this.#checkFetch();
        return path;
      },
      checkBuild: async (path) => {
        const build = buildAt(path);
        if (build.flaw === "unfit") throw new BureauError("invalid-input", "it cannot be used");
        return build;
      },
      needsKeeping: () => false,
      keepBuilds: async () => {},
      hold: () => ({
        kill: () => {
          if (isDead()) return false;
          this.#restartLauncher();
          return true;
        },
        [Symbol.dispose]: () => {},
      }),
    };
  }

  #readRecord(nowMs: number): WatchdogRecord | undefined {
    const record = this.#record;
    const told = Object.values(this.#told).map((text): Partial<WatchdogRecord> => JSON.parse(text))[0];
    this.#told = {};
    if (record === undefined || nowMs - record.timestamp * 1_000 > RECORD_AGE_MS_MAX) return undefined;
    return told?.request_id === record.request_id ? { ...record, ...told } : record;
  }

  #moveBootLink(path: string): void {
    const { flaw } = buildAt(path);
    const works = flaw === "launcher forgets" ? !this.#hasForgotten : flaw === "none";
    if (!works) this.#deps.onViolation(`the boot link leads to a build of which the ${flaw}`);
    this.#deps.onEvent(`the boot link leads to ${path}`);
    this.bootLink = path;
  }

  /** What failed, and the disk or the room remembers it, is not tried again. */
  #checkFetch(): void {
    const id = this.wanted?.request_id;
    const { onViolation } = this.#deps;
    const isOver = ({ history }: { readonly history: MachineVersion["history"] }): boolean =>
      history.some(({ request_id, outcome }) => request_id === id && outcome !== "succeeded");
    if (isOver(this.#disk) || (this.#said !== undefined && isOver(this.#said)))
      onViolation(`request ${id} failed and is tried again`);
  }

  #restartLauncher(): void {
    this.#deps.onEvent(`the launcher ends; one of ${this.bootLink} starts`);
    this.#launchers++;
    this.#launcherFrom = this.bootLink;
    this.#launcherSince = 0;
    this.#execFault = undefined;
    this.#endedDaemon = false;
  }

  get #launcherFlaw(): SimulatedBuild["flaw"] {
    return buildAt(this.#launcherFrom).flaw;
  }

  /** Before the launcher answers anything. */
  async beforeAnswer(): Promise<void> {
    if (this.#launcherFlaw !== "launcher hangs") return;
    await this.#deps.clock.sleep(HANG_MS);
    throw new BureauError("timeout", "the launcher does not answer");
  }

  /** Another text for each launcher, and for each view that one has of its sandboxes. */
  get launcherRun(): string {
    return `${this.#launchers} ${this.#hasForgotten}`;
  }

  get #hasForgotten(): boolean {
    return this.#deps.startedAt().some((at) => this.forgets(at));
  }

  /** The launcher does not know of a sandbox that was started then. A build that had none to forget works. */
  forgets(startedAt: number): boolean {
    if (this.#launcherFrom === this.bootLink) return false;
    return this.#launcherFlaw === "launcher forgets" && startedAt < this.#launcherSince;
  }

  status(): object {
    return {
      pid: 1,
      programs_dir: this.#launcherFrom,
      sha256: buildAt(this.#launcherFrom).programs["bureau-launcher"],
      ...(this.#execFault === undefined ? {} : { exec_fault: this.#execFault }),
      ...(this.#endedDaemon ? { ended_daemon: 1 } : {}),
    };
  }

  execUpdate({ programs_dir: path }: LauncherRequest<"exec-update">): object {
    const { clock, random } = this.#deps;
    const { flaw } = buildAt(path);
    this.#execFault = flaw === "launcher cannot be executed" ? "ENOEXEC" : undefined;
    if (this.#execFault !== undefined) return {};
    this.#deps.onEvent(`a launcher of ${path} runs: ${flaw}`);
    this.#launcherFrom = path;
    this.#launcherSince = clock.now() - BRIEF_MS;
    const endsAfter = { "launcher exits": random.below(EXIT_MS_MAX), "launcher hangs": WATCHDOG_MS };
    if (flaw === "launcher exits" || flaw === "launcher hangs") {
      const since = ++this.#launchers;
      void clock.sleep(endsAfter[flaw]).then(() => {
        if (this.#launchers === since) this.#restartLauncher();
      });
    }
    return {};
  }

  watchDaemon({ deadline_ms }: LauncherRequest<"watch-daemon">): object {
    const { clock, killDaemon, startDaemon } = this.#deps;
    const watch = { pid: this.#pid };
    this.#watch = watch;
    void clock.sleep(deadline_ms).then(() => {
      if (this.#watch !== watch || watch.pid !== this.#pid) return;
      this.#endedDaemon = true;
      killDaemon();
      this.#restartSoon(startDaemon);
    });
    return {};
  }

  watchedOk(): object {
    this.#watch = undefined;
    this.#endedDaemon = false;
    return {};
  }
}

const never = (): Promise<never> => new Promise(() => {});
