/**
 * One program kept running: started, watched, started again after a growing wait when it dies, stopped when asked.
 * A program that an earlier supervisor left behind is adopted rather than started twice.
 */
import { closeSync, mkdirSync, openSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type BackoffPolicy, delayMs } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import { exitCodes } from "@bureau/os/lifecycle";
import { identify, isAlive, type ProcessId, stopProcess, waitUntilGone } from "@bureau/os/process-table";

export type ProgramPlan = {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** How long it may take to stop before it is killed, in milliseconds. */
  readonly graceMs: number;
};

export type ProgramState = "running" | "backing-off" | "stopped" | "revoked";

/** First retry almost at once: a crash should cost a blink, a crash loop should not cost a core. */
const restartBackoff: BackoffPolicy = { firstMs: 100, maxMs: 10_000 };
/** A program that ran this long is healthy again: the next crash starts the backoff anew. */
const STABLE_MS = 30_000;
/** An adopted program is not our child; its death is seen by looking. */
const ADOPTED_POLL_MS = 500;
/** A log larger than this is moved aside when its program starts. */
const LOG_BYTES_MAX = 8 * 1024 * 1024;

export class SupervisedProgram {
  readonly #planNow: () => ProgramPlan;
  #plan: ProgramPlan;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #changed: () => void;
  readonly #stop = new AbortController();
  #process: ProcessId | undefined;
  /** Undefined for an adopted process. */
  #child: Bun.Subprocess | undefined;
  #state: ProgramState = "stopped";
  #restarts = 0;
  #lastExit: string | undefined;
  #loop: Promise<void> | undefined;

  /** `planNow` is asked at every start: where a program lies may change. */
  constructor(planNow: () => ProgramPlan, deps: { clock: Clock; log: Log; changed: () => void }) {
    this.#planNow = planNow;
    this.#plan = planNow();
    this.#clock = deps.clock;
    this.#log = deps.log.with({ supervised: this.#plan.name });
    this.#changed = deps.changed;
  }

  get process(): ProcessId | undefined {
    return this.#process;
  }

  /** It was stopped, or must not be started again. */
  get hasEnded(): boolean {
    return this.#state === "revoked" || this.#stop.signal.aborted;
  }

  report(): { name: string; state: ProgramState; pid?: number; restarts: number; last_exit?: string } {
    return {
      name: this.#plan.name,
      state: this.#state,
      ...(this.#process === undefined ? {} : { pid: this.#process.pid }),
      restarts: this.#restarts,
      ...(this.#lastExit === undefined ? {} : { last_exit: this.#lastExit }),
    };
  }

  /** Keeps it running from now on. `left` is the process an earlier supervisor started. */
  start(left?: ProcessId): void {
    this.#loop ??= this.#keepRunning(left !== undefined && isAlive(left) ? left : undefined);
  }

  /** Stops it for good and resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#state === "revoked") return;
    this.#stop.abort();
    if (this.#child !== undefined) await endChild(this.#child, this.#plan.graceMs, this.#clock);
    else if (this.#process !== undefined) await stopProcess(this.#process, this.#plan.graceMs, this.#clock);
    await this.#loop;
    this.#set("stopped", undefined);
  }

  async #keepRunning(adopted: ProcessId | undefined): Promise<void> {
    let attempt = 0;
    for (let next = adopted; !this.#stop.signal.aborted; next = undefined) {
      const started = this.#clock.monotonic();
      const code = next === undefined ? await this.#run() : await this.#watch(next);
      if (this.#stop.signal.aborted) return;
      this.#lastExit = code === undefined ? "ended" : `exited with ${code}`;
      if (code === exitCodes.revoked) {
        this.#log.error("program.revoked", "session revoked, not starting it again");
        return this.#set("revoked", undefined);
      }
      attempt = this.#clock.monotonic() - started > STABLE_MS ? 0 : attempt + 1;
      const waitMs = delayMs(restartBackoff, attempt);
      this.#log.warn("program.exited", "program ended, starting it again", { exit: this.#lastExit, waitMs });
      this.#set("backing-off", undefined);
      await this.#clock.sleep(waitMs, this.#stop.signal);
      this.#restarts++;
    }
  }

  async #run(): Promise<number | undefined> {
    const child = this.#spawn();
    if (child === undefined) return undefined;
    this.#child = child;
    this.#set("running", identify(child.pid));
    await child.exited;
    this.#child = undefined;
    return child.exitCode ?? undefined;
  }

  /** Undefined when it cannot be started now, which is told in the log. */
  #spawn(): Bun.Subprocess | undefined {
    let output: number | undefined;
    try {
      this.#plan = this.#planNow();
      output = openLog(this.#plan.logFile);
      return Bun.spawn([...this.#plan.command], {
        cwd: "/",
        env: { ...this.#plan.env },
        stdin: "ignore",
        stdout: output,
        stderr: output,
        // A session of its own: it outlives a supervisor that is killed.
        detached: true,
      });
    } catch (error) {
      this.#log.error("program.start-failed", "cannot start the program", {
        command: this.#plan.command[0],
        error,
      });
      return undefined;
    } finally {
      if (output !== undefined) closeSync(output);
    }
  }

  async #watch(left: ProcessId): Promise<undefined> {
    this.#log.info("program.adopted", "adopted", { pid: left.pid });
    this.#set("running", left);
    while (!this.#stop.signal.aborted && !(await waitUntilGone(left, 0, this.#clock)))
      await this.#clock.sleep(ADOPTED_POLL_MS, this.#stop.signal);
    return undefined;
  }

  #set(state: ProgramState, process: ProcessId | undefined): void {
    this.#state = state;
    this.#process = process;
    try {
      this.#changed();
    } catch (error) {
      // Whoever is told may be at fault, a full disk say; what runs is looked after all the same.
      this.#log.error("supervisor.notify-failed", "cannot tell of a change", { state, error });
    }
  }
}

/**
 * As {@link stopProcess}, for a child of ours: it keeps its pid until we know that it ended, and where /proc hides
 * processes that guard their memory (hidepid) there is no other way to tell.
 */
async function endChild(child: Bun.Subprocess, graceMs: number, clock: Clock): Promise<void> {
  child.kill("SIGTERM");
  const inTime = new AbortController();
  await Promise.race([child.exited, clock.sleep(graceMs, inTime.signal)]);
  inTime.abort();
  child.kill("SIGKILL");
  await child.exited;
}

function openLog(path: string): number {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    if (statSync(path).size > LOG_BYTES_MAX) renameSync(path, `${path}.1`);
  } catch {
    // There is none yet.
  }
  return openSync(path, "a", 0o600);
}
