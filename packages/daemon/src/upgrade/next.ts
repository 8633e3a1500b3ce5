/**
 * Decides what the upgrader does next. Pure: computes from its state ({@link Upgrades}) and its observations ({@link
 * Seen}) the new state and the effects to perform, in order. The runner performs them and calls {@link next} with the
 * last answer.
 *
 * ```
 * fetch ─ check ─ replace: exec, prove ─ change-launcher: exec, prove ─ soak ─ confirm: the boot link moves
 * ```
 *
 * The new state is known before its effects are performed, so a sandbox that is removed during an effect is not
 * forgotten. Deadlines use the monotonic clock: setting the host's clock changes none of them.
 */
import type { LogEvent } from "@bureau/kit/log";
import { type Build, contentOf, contentOfAll } from "@bureau/os/build";
import type { WatchdogRecord } from "@bureau/os/watchdog-record";
import type { MachineVersion, UpgradeStep } from "@bureau/schema/events";
import { type EventMessage, eventMessage } from "../event-messages/event-message.ts";
import { tooBusy } from "./become.ts";
import { CUT_OFF_MAX, ENDED, type Start } from "./decide.ts";
import { silent } from "./launcher-upgrade.ts";
import {
  type CurrentUpgrade,
  cutOff,
  finished,
  isFinished,
  type Outcome,
  recalled,
  type UpgradeRequest,
  type UpgradeState,
} from "./upgrade-state.ts";
import type { UpgradeTimes } from "./upgrade-times.ts";

const PROGRAM = "bureau-daemon";
const POLL_MS = 250;
/** A connection may drop without a fault of the build; a homeserver restarts within seconds. */
export const OFFLINE_MS_MAX = 8_000;
/** While it soaks, a new daemon reports to the launcher at this interval that it works. */
const ALIVE_MS = 4_000;
/** The launcher ends a new daemon that is silent for this long. */
export const SILENCE_MS_MAX = 15_000;

/** Why the new build does not work. */
export type Failure = { readonly reason: string; readonly blames: "program" | "homeserver" };

/** Why the launcher and the boot link are rolled back to the machine's build. */
type Back =
  | { readonly kind: "rolled-back"; readonly reason: string }
  /** The request starts again from its beginning; `counts`: as one of {@link CUT_OFF_MAX} attempts. */
  | { readonly kind: "again"; readonly counts: boolean };

/** What the upgrader waits for. */
export type Phase =
  | { readonly kind: "boot"; readonly start: Start }
  | { readonly kind: "begin"; readonly start: Start }
  /** No request is under way. */
  | { readonly kind: "idle" }
  | { readonly kind: "ready" }
  | { readonly kind: "fetch" }
  | { readonly kind: "check" }
  | { readonly kind: "count"; readonly build: Build }
  | { readonly kind: "decided"; readonly build: Build }
  | { readonly kind: "replace"; readonly build: Build }
  /** This is the new daemon. */
  | { readonly kind: "prove" }
  | { readonly kind: "pause" }
  | { readonly kind: "recount" }
  | { readonly kind: "change-launcher" }
  | Soak
  | { readonly kind: "read-build" }
  | { readonly kind: "confirm"; readonly build: Build }
  | { readonly kind: "go-back"; readonly failure: Failure; readonly to: string }
  | { readonly kind: "gone-back"; readonly to: string }
  | { readonly kind: "judge"; readonly reason: string; readonly until: number }
  | { readonly kind: "take-back"; readonly back: Back };

/** Times on the monotonic clock. */
type Soak = {
  readonly kind: "soak";
  readonly until: number;
  /** When the launcher was asked; undefined between two requests. */
  readonly askedAt?: number | undefined;
  readonly offlineSince?: number | undefined;
  readonly silentSince?: number | undefined;
};

/** The state of the upgrader. */
export type Upgrades = {
  /** The state on the disk, or to be written as soon as there is room. */
  readonly disk: UpgradeState;
  /**
   * The build of this machine: the one that this daemon was started from, or one that was confirmed since and has the
   * same daemon.
   */
  readonly build: Build;
  readonly phase: Phase;
};

/** The answer to the last effects. */
export type Answer =
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "fetched"; readonly path: string }
  | { readonly kind: "build"; readonly build: Build }
  /** Undefined: the launcher does not answer. */
  | { readonly kind: "running"; readonly sandboxes: readonly string[] | undefined }
  | { readonly kind: "paused"; readonly isQuiet: boolean }
  /** The fault of the launcher; undefined when there is none. */
  | { readonly kind: "launcher"; readonly fault: string | undefined }
  | { readonly kind: "not-replaced"; readonly reason: string };

/** The observations of the upgrader. */
export type Seen = {
  readonly answer: Answer;
  /** The build that the machine's configuration asks for. */
  readonly wanted: UpgradeRequest | undefined;
  /** The content of this machine's room about its builds. */
  readonly said: MachineVersion | undefined;
  /** As the previous program left it. */
  readonly record: WatchdogRecord | undefined;
  readonly isOnline: boolean;
  /** The homeserver was asked and did not answer. */
  readonly isAway: boolean;
  /** The event about the running build came back through /sync. */
  readonly isEchoed: boolean;
  /** The daemon must stop. */
  readonly isStopping: boolean;
  /** On trial, the homeserver reported that this machine belongs to no fleet: the reason. */
  readonly refused: string | undefined;
  /** The launcher reports that it ended a daemon. */
  readonly hasEndedDaemon: boolean;
  /** When the launcher last heard from this daemon while it soaked; monotonic. */
  readonly heardAt: number | undefined;
  /** When this daemon started; monotonic. */
  readonly startedAt: number;
  readonly times: UpgradeTimes;
};

/** Milliseconds: since the epoch, and on the monotonic clock. */
export type Now = { readonly wall: number; readonly monotonic: number };

export type Effect =
  | {
      readonly kind: "log";
      readonly level: "info" | "error";
      readonly event: LogEvent;
      readonly text: string;
      readonly fields?: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: "notify"; readonly message: EventMessage }
  /** Writes {@link Upgrades.disk}. `required`: it fails when the disk does not take it; else it is written later. */
  | { readonly kind: "save"; readonly required: boolean }
  | { readonly kind: "write-record"; readonly why: Partial<Failure> }
  | { readonly kind: "clear-record" }
  /** Asks the launcher for its status. */
  | { readonly kind: "look" }
  | { readonly kind: "write-left" }
  /** Keeps these builds, and those that sandboxes use, in the Nix store. */
  | { readonly kind: "keep-builds"; readonly paths: readonly string[] }
  | { readonly kind: "fetch"; readonly path: string }
  | {
      readonly kind: "check";
      readonly path: string;
      readonly asked: string;
      readonly running: Build;
    }
  | { readonly kind: "list-running" }
  | { readonly kind: "pause" }
  | { readonly kind: "resume" }
  /** Replaces this daemon by that build's daemon. Has an answer only when exec failed. */
  | { readonly kind: "replace"; readonly path: string; readonly watchMs: number }
  | {
      readonly kind: "replace-by-previous";
      readonly path: string;
      /** The reason, when it could not be written to the record. */
      readonly told: Failure | undefined;
    }
  /** Lets the launcher end this daemon unless it hears from it within `ms`. */
  | { readonly kind: "watch"; readonly ms: number }
  | { readonly kind: "renew-watch" }
  | { readonly kind: "unwatch" }
  | { readonly kind: "check-launcher"; readonly path?: string }
  | { readonly kind: "change-launcher"; readonly path: string; readonly requestId: string }
  | {
      readonly kind: "take-launcher-back";
      readonly path: string;
      readonly previous: string;
      readonly requestId: string;
    }
  | { readonly kind: "end-hung-launcher" }
  | { readonly kind: "read-build"; readonly path: string }
  | { readonly kind: "move-boot-link"; readonly to: string }
  /** Moves the boot link to `to` if it leads to `from`. */
  | { readonly kind: "return-boot-link"; readonly from: string; readonly to: string }
  | { readonly kind: "sleep"; readonly ms: number }
  /** Waits for a change, or for the time of the next attempt to write what the disk did not take. */
  | { readonly kind: "wait" };

export type Step = {
  readonly state: Upgrades;
  /** Performed in order; the first that fails ends them. */
  readonly effects: readonly Effect[];
  /** The upgrader ends, with an error when there is a reason. */
  readonly end?: { readonly reason?: string };
};

type Situation = { readonly state: Upgrades; readonly seen: Seen; readonly now: Now };

export function next(state: Upgrades, seen: Seen, now: Now): Step {
  const at: Situation = { state, seen, now };
  const { phase } = state;
  const isGoingBack = phase.kind === "go-back" || phase.kind === "gone-back";
  if (seen.refused !== undefined && !isGoingBack)
    return goBack(at, { reason: `the homeserver refused it: ${seen.refused}`, blames: "homeserver" });
  switch (phase.kind) {
    case "boot":
      return to(at, { kind: "begin", start: phase.start }, { kind: "look" });
    case "begin":
      return begin(at, phase.start);
    case "idle":
      return idle(at);
    case "ready":
      return ready(at);
    case "fetch":
    case "check":
    case "count":
    case "decided":
      return prepare(at, phase);
    case "replace":
      return notReplaced(at, phase.build);
    case "go-back":
    case "gone-back":
      return replaceByPrevious(at, phase);
    case "judge":
      return judge(at, phase.reason, phase.until);
    case "take-back":
      return takenBack(at, phase.back);
    default:
      return onTrial(at, phase);
  }
}

/** The next phase, and its effects. */
const to = ({ state }: Situation, phase: Phase, ...effects: readonly Effect[]): Step => ({
  state: { ...state, phase },
  effects,
});

const first = (effects: readonly Effect[], step: Step): Step => ({
  ...step,
  effects: [...effects, ...step.effects],
});

const withDisk = (at: Situation, disk: UpgradeState): Situation => ({
  ...at,
  state: { ...at.state, disk },
});

const stop = (at: Situation, ...effects: readonly Effect[]): Step => ({
  ...to(at, at.state.phase, ...effects),
  end: {},
});

const fail = (at: Situation, reason: string): Step => ({ ...to(at, at.state.phase), end: { reason } });

const saved: Effect = { kind: "save", required: true };
const savedLater: Effect = { kind: "save", required: false };

/** The request under way, one step further; the step is written before it is taken. */
function atStep(
  at: Situation,
  current: CurrentUpgrade,
  step: UpgradeStep,
  change: Partial<CurrentUpgrade> = {},
): Situation {
  return withDisk(at, { ...at.state.disk, current: { ...current, ...change, step } });
}

/** Handles what was under way when this daemon started. */
function begin(at: Situation, start: Start): Step {
  if (start.kind === "idle") return recogniseBoot(at);
  const said: Effect = {
    kind: "log",
    level: "info",
    event: "upgrade.resumed",
    text: "an upgrade is under way",
    fields: start,
  };
  // The launcher watches this process, which runs the old daemon again when the new one rolled back by itself.
  const effects: Effect[] = start.kind === "prove" ? [said] : [said, { kind: "unwatch" }];
  switch (start.kind) {
    case "again":
      return first(effects, takeBack(at, start));
    case "judge": {
      const until = at.now.monotonic + at.seen.times.judge;
      return first(effects, judge(at, start.reason, until));
    }
    case "rolled-back":
      return first(effects, takeBack(at, { ...start, reason: explain(at, start.reason) }));
    case "prove":
      return first(effects, prove(at));
    case "confirm":
      return first(effects, confirm(at));
    default:
      return first(effects, countResumed(at));
  }
}

/** No request is under way: the running build is the one to start from now on. */
function recogniseBoot(at: Situation): Step {
  const { disk, build } = at.state;
  const cleared: Effect = { kind: "clear-record" };
  if (disk.confirmed?.path === build.path) return to(at, { kind: "idle" }, cleared);
  const confirmed = { path: build.path, version: build.version };
  return to(withDisk(at, { ...disk, confirmed }), { kind: "idle" }, cleared, savedLater);
}

/** A daemon that ended without a reason may have been ended by the launcher because it was late. */
const explain = ({ seen }: Situation, reason: string): string =>
  reason === ENDED && seen.hasEndedDaemon ? "the new daemon did not answer in time and was killed" : reason;

/** The count detects a launcher that makes an unchanged daemon crash. */
function countResumed(at: Situation): Step {
  const { current } = at.state.disk;
  if (current === undefined || current.daemon_changes) return launcherTurn(at);
  const resumed = (current.resumed ?? 0) + 1;
  // A count that a full disk does not take holds for as long as this daemon lives.
  const counted = withDisk(at, { ...at.state.disk, current: { ...current, resumed } });
  return first([savedLater], launcherTurn(counted));
}

function idle(at: Situation): Step {
  const { answer, isStopping } = at.seen;
  if (answer.kind === "failed") return fail(at, answer.reason);
  if (isStopping) return stop(at);
  const { disk, build } = at.state;
  const { confirmed, previous, current } = disk;
  const paths = [build.path, confirmed?.path, previous, current?.request.path, current?.from];
  return to(
    at,
    { kind: "ready" },
    { kind: "look" },
    { kind: "write-left" },
    { kind: "keep-builds", paths: paths.filter((path) => path !== undefined) },
  );
}

/** Starts the next request. */
function ready(at: Situation): Step {
  const { answer, isStopping, isOnline, said, wanted } = at.seen;
  if (answer.kind === "failed") return fail(at, answer.reason);
  if (isStopping) return stop(at);
  const wait: Effect = { kind: "wait" };
  if (!isOnline) return to(at, { kind: "idle" }, wait);
  const { disk } = at.state;
  const known = said === undefined ? disk : recalled(disk, said);
  const informed = known === disk ? at : withDisk(at, known);
  const effects = known === disk ? [] : [savedLater];
  if (wanted === undefined || isFinished(known, wanted.request_id))
    return to(informed, { kind: "idle" }, ...effects, wait);
  return first(effects, upgrade(informed, wanted));
}

function upgrade(at: Situation, request: UpgradeRequest): Step {
  const { disk, build } = at.state;
  const { cut_off: before } = disk;
  const current: CurrentUpgrade = {
    request,
    step: "prefetch",
    started_at: at.now.wall,
    from: build.path,
    daemon_changes: false,
    sandboxes: [],
  };
  const begun = withDisk(at, { ...disk, current });
  const said: Effect = {
    kind: "log",
    level: "info",
    event: "upgrade.requested",
    text: "another build is requested",
    fields: { path: request.path, request: request.request_id },
  };
  if (before?.request_id === request.request_id && before.count >= CUT_OFF_MAX)
    return first([said], refuse(begun, `it was cut off ${before.count} times`));
  return to(begun, { kind: "fetch" }, said, saved, { kind: "fetch", path: request.path });
}

type Preparing = Extract<Phase, { readonly kind: "fetch" | "check" | "count" | "decided" }>;

/** Before the first exec: any failure refuses the request and changes nothing. */
function prepare(at: Situation, phase: Preparing): Step {
  const { answer, isStopping } = at.seen;
  // The next daemon continues a request that is cut off.
  if (isStopping) return stop(at);
  if (answer.kind === "failed") return refuse(at, answer.reason);
  const { current } = at.state.disk;
  if (current === undefined) return to(at, { kind: "idle" });
  if (answer.kind === "fetched") return check(at, current, answer.path);
  if (answer.kind === "build") return compare(at, answer.build);
  if (phase.kind === "count" && answer.kind === "running")
    return decide(at, current, phase.build, answer.sandboxes);
  if (phase.kind !== "decided") return refuse(at, `unexpected answer: ${answer.kind}`);
  return current.daemon_changes ? replace(at, phase.build) : launcherTurn(at);
}

function check(at: Situation, current: CurrentUpgrade, path: string): Step {
  const { request } = current;
  return to(atStep(at, current, "check", { request: { ...request, path } }), { kind: "check" }, saved, {
    kind: "check",
    path,
    asked: request.path,
    running: at.state.build,
  });
}

function compare(at: Situation, build: Build): Step {
  if (contentOfAll(build) !== contentOfAll(at.state.build))
    return to(at, { kind: "count", build }, { kind: "list-running" });
  // The same content, perhaps under another path: nothing is changed.
  const { confirmed, previous } = at.state.disk;
  const done = finished(at.state.disk, { outcome: "succeeded", content: contentOfAll(build) }, at.now.wall);
  const { confirmed: _, previous: __, ...rest } = done;
  const disk = {
    ...rest,
    ...(confirmed === undefined ? {} : { confirmed }),
    ...(previous === undefined ? {} : { previous }),
  };
  return to(withDisk(at, disk), { kind: "idle" }, savedLater);
}

function decide(
  at: Situation,
  current: CurrentUpgrade,
  build: Build,
  sandboxes: readonly string[] | undefined,
): Step {
  if (sandboxes === undefined) return refuse(at, "the launcher does not answer");
  const changes = contentOf(build, PROGRAM) !== contentOf(at.state.build, PROGRAM);
  const change = { sandboxes: [...sandboxes], version: build.version, daemon_changes: changes };
  return to(atStep(at, current, changes ? "daemon" : "launcher", change), { kind: "decided", build }, saved);
}

/** Ends this program unless the build cannot be executed. */
function replace(at: Situation, build: Build): Step {
  const { times } = at.seen;
  return to(
    at,
    { kind: "replace", build },
    { kind: "notify", message: eventMessage.selfUpdate(at.state.build.path, build.path, "in_progress") },
    { kind: "replace", path: build.path, watchMs: times.proof + times.margin },
  );
}

function notReplaced(at: Situation, build: Build): Step {
  const { answer, isStopping } = at.seen;
  // This daemon must stop before exec: the next one starts the request again.
  if (isStopping) return stop(at, { kind: "clear-record" });
  const reason = reasonOf(answer);
  return first(
    [
      {
        kind: "log",
        level: "error",
        event: "upgrade.exec-failed",
        text: "cannot replace this daemon; it keeps running",
        fields: { reason },
      },
      { kind: "unwatch" },
      { kind: "notify", message: eventMessage.selfUpdate(at.state.build.path, build.path, "failed", reason) },
    ],
    refuse(at, reason, contentOfAll(build)),
  );
}

const reasonOf = (answer: Answer): string =>
  answer.kind === "not-replaced" || answer.kind === "failed" ? answer.reason : "it was not executed";

/** The new build, from `prove` to `confirm`; rolls back when it fails. */
function onTrial(
  at: Situation,
  phase: Extract<
    Phase,
    { readonly kind: "prove" | "pause" | "recount" | "change-launcher" | "soak" | "read-build" | "confirm" }
  >,
): Step {
  const { answer, isStopping } = at.seen;
  // After the boot link moved, the result is written even when the daemon must stop.
  if (isStopping && phase.kind !== "confirm") return stop(at);
  if (answer.kind === "failed") return failed(at, { reason: answer.reason, blames: "program" });
  switch (phase.kind) {
    case "prove":
      return proven(at, answer.kind === "launcher" ? answer.fault : undefined);
    case "pause":
      return answer.kind === "paused" && answer.isQuiet
        ? to(at, { kind: "recount" }, { kind: "list-running" })
        : failed(at, { reason: tooBusy, blames: "program" });
    case "recount":
      return changeLauncher(at, answer.kind === "running" ? (answer.sandboxes ?? []) : []);
    case "change-launcher":
      if (answer.kind === "launcher" && answer.fault !== undefined)
        return failed(at, newLauncher(answer.fault));
      return first([{ kind: "resume" }], soak(at, { kind: "soak", until: at.now.monotonic + soakMs(at) }));
    case "soak":
      return soak(at, phase);
    case "read-build":
      if (answer.kind !== "build") return failed(at, { reason: "it cannot be read", blames: "program" });
      return moveBootLink(at, answer.build);
    case "confirm":
      return confirmed(at, phase.build);
  }
}

const newLauncher = (fault: string): Failure => ({
  reason: `the new launcher: ${fault}`,
  blames: "program",
});

/** This is the new daemon. */
function prove(at: Situation): Step {
  const ask: Effect = { kind: "check-launcher" };
  if (at.seen.record !== undefined) return to(at, { kind: "prove" }, ask);
  return to(at, { kind: "prove" }, { kind: "write-record", why: {} }, ask);
}

function proven(at: Situation, fault: string | undefined): Step {
  const { isOnline, isEchoed, startedAt, times } = at.seen;
  if (fault === undefined && isOnline && isEchoed) return first([{ kind: "resume" }], launcherTurn(at));
  if (at.now.monotonic <= startedAt + times.proof)
    return to(at, { kind: "prove" }, { kind: "sleep", ms: POLL_MS }, { kind: "check-launcher" });
  const seconds = times.proof / 1_000;
  return failed(
    at,
    fault !== undefined
      ? { reason: `${fault}, for ${seconds} s`, blames: "program" }
      : { reason: `the new daemon was not in sync within ${seconds} s`, blames: "homeserver" },
  );
}

function launcherTurn(at: Situation): Step {
  const { current } = at.state.disk;
  if (current === undefined) return to(at, { kind: "idle" }, { kind: "resume" });
  const pause: Effect = { kind: "pause" };
  if (current.step === "launcher") return to(at, { kind: "pause" }, pause);
  return to(atStep(at, current, "launcher"), { kind: "pause" }, saved, pause);
}

/**
 * The new launcher must also know the sandboxes that were started since the request began. While the reconciler pauses,
 * nothing more is started.
 */
function changeLauncher(at: Situation, running: readonly string[]): Step {
  const { current } = at.state.disk;
  if (current === undefined) return to(at, { kind: "idle" }, { kind: "resume" });
  const { request, daemon_changes } = current;
  const { times } = at.seen;
  const sandboxes = [...new Set([...current.sandboxes, ...running])];
  const isKnown = sandboxes.length === current.sandboxes.length;
  // A launcher that is being replaced receives no reports from this daemon: the deadline covers that time.
  const watch: Effect = { kind: "watch", ms: times.launcherProof + times.margin + SILENCE_MS_MAX };
  return to(
    isKnown ? at : atStep(at, current, "launcher", { sandboxes }),
    { kind: "change-launcher" },
    ...(isKnown ? [] : [saved]),
    ...(daemon_changes ? [watch] : []),
    { kind: "change-launcher", path: request.path, requestId: request.request_id },
  );
}

const changesDaemon = ({ state }: Situation): boolean => state.disk.current?.daemon_changes === true;

function soakMs(at: Situation): number {
  const { soak, launcherSoak } = at.seen.times;
  return changesDaemon(at) ? Math.max(soak, launcherSoak) : launcherSoak;
}

/** All of the new build runs; for the soak time no part of it may fail. */
function soak(at: Situation, phase: Soak): Step {
  const { answer } = at.seen;
  const { current } = at.state.disk;
  if (current === undefined) return to(at, { kind: "idle" }, { kind: "resume" });
  if (phase.askedAt !== undefined)
    return soaked(at, phase, phase.askedAt, answer.kind === "launcher" ? answer.fault : undefined);
  const now = at.now.monotonic;
  const isOver = now >= phase.until && phase.offlineSince === undefined && phase.silentSince === undefined;
  if (!isOver)
    return to(at, { ...phase, askedAt: now }, { kind: "check-launcher", path: current.request.path });
  return changesDaemon(at) ? first([{ kind: "unwatch" }], confirm(at)) : confirm(at);
}

function soaked(at: Situation, phase: Soak, askedAt: number, fault: string | undefined): Step {
  const { isOnline, heardAt, times } = at.seen;
  const now = at.now.monotonic;
  if (fault !== undefined && fault !== silent) return failed(at, newLauncher(fault));
  // A slow launcher gets the same time as for its proof. If it ended, its replacement answers.
  const silentSince = fault === silent ? (phase.silentSince ?? askedAt) : undefined;
  if (silentSince !== undefined && now - silentSince > times.launcherProof)
    return failed(at, newLauncher(silent));
  // A launcher has no network: where only it changes, an unreachable homeserver is no fault of the build.
  const offlineSince = changesDaemon(at) && !isOnline ? (phase.offlineSince ?? now) : undefined;
  if (offlineSince !== undefined && now - offlineSince > OFFLINE_MS_MAX)
    return failed(at, { reason: "the homeserver could no longer be reached", blames: "homeserver" });
  const renews =
    changesDaemon(at) && silentSince === undefined && (heardAt === undefined || now >= heardAt + ALIVE_MS);
  const effects: Effect[] = renews ? [{ kind: "renew-watch" }] : [];
  return to(at, { kind: "soak", until: phase.until, offlineSince, silentSince }, ...effects, {
    kind: "sleep",
    ms: POLL_MS,
  });
}

/** Makes the new build the one that starts from now on. Idempotent. */
function confirm(at: Situation): Step {
  const { current } = at.state.disk;
  if (at.seen.isStopping) return stop(at);
  if (current === undefined) return to(at, { kind: "idle" }, { kind: "resume" });
  const isWritten = current.step === "confirm";
  const last = isWritten ? at : atStep(at, current, "confirm");
  const effects = isWritten ? [] : [saved];
  if (current.daemon_changes) return first(effects, moveBootLink(last, at.state.build));
  return to(last, { kind: "read-build" }, ...effects, { kind: "read-build", path: current.request.path });
}

const moveBootLink = (at: Situation, build: Build): Step =>
  to(
    at,
    { kind: "confirm", build },
    { kind: "move-boot-link", to: at.state.disk.current?.request.path ?? build.path },
  );

function confirmed(at: Situation, build: Build): Step {
  const { current } = at.state.disk;
  if (current === undefined) return to(at, { kind: "idle" }, { kind: "resume" });
  const { path } = current.request;
  const disk = finished(at.state.disk, { outcome: "succeeded" }, at.now.wall);
  const told: Effect = {
    kind: "notify",
    message: eventMessage.selfUpdate(current.from, path, "succeeded"),
  };
  return {
    state: { disk, build, phase: { kind: "idle" } },
    effects: [
      savedLater,
      {
        kind: "log",
        level: "info",
        event: "upgrade.confirmed",
        text: "upgrade confirmed; boot link moved",
        fields: { path },
      },
      ...(current.daemon_changes ? [told] : []),
      { kind: "resume" },
    ],
  };
}

/** The new build does not work. */
function failed(at: Situation, failure: Failure): Step {
  if (at.seen.isStopping) return stop(at);
  const back = changesDaemon(at)
    ? goBack(at, failure)
    : takeBack(at, { kind: "rolled-back", reason: failure.reason });
  return first([{ kind: "end-hung-launcher" }], back);
}

/**
 * The new daemon executes the old one, which reports the reason. If that fails too, the daemon ends, and the service
 * manager starts the build that is known to work.
 */
function goBack(at: Situation, failure: Failure): Step {
  const { current } = at.state.disk;
  if (current === undefined) return fail(at, failure.reason);
  return to(
    at,
    { kind: "go-back", failure, to: current.from },
    {
      kind: "log",
      level: "error",
      event: "upgrade.failed",
      text: "the new build does not work; going back",
      fields: { reason: failure.reason },
    },
    { kind: "write-record", why: failure },
  );
}

function replaceByPrevious(
  at: Situation,
  phase: Extract<Phase, { readonly kind: "go-back" | "gone-back" }>,
): Step {
  const { answer } = at.seen;
  const { to: path } = phase;
  if (phase.kind === "gone-back") return fail(at, `Cannot roll back to "${path}": ${reasonOf(answer)}`);
  const gone: Phase = { kind: "gone-back", to: path };
  if (answer.kind !== "failed") return to(at, gone, { kind: "replace-by-previous", path, told: undefined });
  return to(
    at,
    gone,
    {
      kind: "log",
      level: "error",
      event: "upgrade.reason-unrecorded",
      text: "cannot write the reason of the rollback; the next daemon gets it in its environment",
      fields: { error: answer.reason },
    },
    { kind: "replace-by-previous", path, told: phase.failure },
  );
}

/**
 * The new daemon could not reach the homeserver. The new build is at fault if this daemon reaches it at once. If this
 * one cannot either, or only later, the build is not at fault: the request starts again.
 */
function judge(at: Situation, reason: string, until: number): Step {
  const { isStopping, isAway, isOnline, startedAt } = at.seen;
  const now = at.now.monotonic;
  if (now >= until || isStopping || isAway) return takeBack(at, { kind: "again", counts: false });
  if (!isOnline) return to(at, { kind: "judge", reason, until }, { kind: "sleep", ms: POLL_MS });
  const isPrompt = now - startedAt <= OFFLINE_MS_MAX;
  return takeBack(at, isPrompt ? { kind: "rolled-back", reason } : { kind: "again", counts: true });
}

/** This is the old daemon, and it runs: rolls launcher and boot link back too, if they were changed. */
function takeBack(at: Situation, back: Back): Step {
  const { disk, build } = at.state;
  const { current } = disk;
  if (current === undefined) return to(at, { kind: "idle" }, { kind: "resume" });
  const { path, request_id: requestId } = current.request;
  const launcher: Effect = { kind: "take-launcher-back", path, previous: build.path, requestId };
  if (back.kind === "again")
    return path === build.path ? takenBack(at, back) : to(at, { kind: "take-back", back }, launcher);
  const said: Effect = {
    kind: "log",
    level: "error",
    event: "upgrade.rolled-back",
    text: "the new build is rolled back",
    fields: { path, reason: back.reason },
  };
  const link: Effect = { kind: "return-boot-link", from: path, to: build.path };
  return to(at, { kind: "take-back", back }, said, link, launcher);
}

function takenBack(at: Situation, back: Back): Step {
  const { answer } = at.seen;
  if (at.state.phase.kind === "take-back" && answer.kind === "failed") return fail(at, answer.reason);
  const resume: Effect = { kind: "resume" };
  const { disk, build } = at.state;
  if (back.kind === "again")
    return to(withDisk(at, cutOff(disk, back.counts)), { kind: "idle" }, savedLater, resume);
  const { current } = disk;
  const { reason } = back;
  const told: Effect[] =
    current?.daemon_changes === true
      ? [
          {
            kind: "notify",
            message: eventMessage.selfUpdate(build.path, current.request.path, "failed", reason),
          },
        ]
      : [];
  return first(told, first([], finish(at, { outcome: "rolled-back", reason }, resume)));
}

/** The request ends without success. */
function finish(at: Situation, outcome: Outcome, ...effects: readonly Effect[]): Step {
  const disk = finished(at.state.disk, outcome, at.now.wall);
  return to(withDisk(at, disk), { kind: "idle" }, savedLater, ...effects);
}

function refuse(at: Situation, reason: string, content?: string): Step {
  const said: Effect = {
    kind: "log",
    level: "error",
    event: "upgrade.refused",
    text: "the requested build is refused",
    fields: { reason },
  };
  return first(
    [said],
    finish(at, { outcome: "refused", reason, ...(content === undefined ? {} : { content }) }),
  );
}
