/**
 * Keeps one program running: starts it, watches it, starts it again with a backoff when it exits, stops it on request. Adopts
 * the process of an earlier supervisor instead of starting a second one.
 */
import { closeSync, mkdirSync, openSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type BackoffPolicy, delayMs } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import { exitCodes } from "@bureau/os/lifecycle";
import { stopProcess, waitUntilGone } from "@bureau/os/process-end";
import { identify, isAlive, type ProcessId } from "@bureau/os/process-table";

export type ProgramPlan = {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** How long it may take to stop before it is killed, in milliseconds. */
  readonly graceMs: number;
};

export type ProgramState = "running" | "backing-off" | "stopped" | "revoked";

/** The first retry is almost immediate, and a crash loop does not use a whole core. */
const restartBackoff: BackoffPolicy = { firstMs: 100, maxMs: 10_000 };
/** A crash of a program that ran this long restarts the backoff. */
const STABLE_MS = 30_000;
/** An adopted program is not our child: its end is found by polling. */
const ADOPTED_POLL_MS = 500;
/** A larger log is renamed when its program starts. */
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

  /** `planNow` is called at every start: the path of a program may change. */
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

  /** It was stopped, or is revoked and is not started again. */
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

  /** Keeps it running from now on. `left`: the process that an earlier supervisor started. */
  start(left?: ProcessId): void {
    this.#loop ??= this.#keepRunning(left !== undefined && isAlive(left) ? left : undefined);
  }

  /** Stops it permanently and resolves when it has exited. */
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

  /** Undefined when it cannot be started now; the log has the reason. */
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
      // The callback may fail, for example on a full disk; the program is supervised anyway.
      this.#log.error("supervisor.notify-failed", "cannot record a change of state", { state, error });
    }
  }
}

/**
 * As {@link stopProcess}, for a child of ours: it keeps its pid until we have waited for it. Where /proc hides processes that
 * protect their memory (hidepid), its end cannot be found in another way.
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
    // There is no log yet.
  }
  return openSync(path, "a", 0o600);
}
