/**
 * Replaces the launcher by another build while sandboxes and clients stay connected: it answers open requests, ends the
 * spare proxies and the connection to tmux, which the new program cannot use, and executes the new program in the same
 * process. That one adopts the sandboxes from their records, as after a crash, and inherits the socket and the lock.
 *
 * The daemon decides whether the new launcher works. The launcher watches a new daemon (daemon-watch.ts).
 */
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import { inTime } from "@bureau/kit/wait-for";
import {
  argumentsFor,
  type Build,
  contentOf,
  readBuild,
  readOwnBuild,
  runtimeOf,
  wholeFaultOf,
} from "@bureau/os/build";
import { faultOfPlace } from "@bureau/os/build-place";
import type { CborServer } from "@bureau/os/cbor-server";
import { replaceProcess } from "@bureau/os/exec";
import { socketNames } from "@bureau/os/layout";
import type { ProcessId } from "@bureau/os/process-table";
import { pingWatchdog } from "@bureau/os/systemd";
import {
  bootId,
  clearWatchdogRecord,
  readWatchdogRecord,
  writeWatchdogRecord,
} from "@bureau/os/watchdog-record";
import { DaemonWatch } from "./daemon-watch.ts";
import { LOCK_FD } from "./instance-lock.ts";
import type { PrincipalLock } from "./principal-lock.ts";
import type { SandboxHost } from "./sandbox/sandbox-host.ts";

const PROGRAM = "bureau-launcher";
/**
 * From the request to the new program. Shorter than the daemon's wait for an answer: after the daemon gives up, no
 * replacement may follow.
 */
const REPLACE_MS_MAX = 6_000;

export type RenewalDeps = Pick<Runtime, "log"> & {
  readonly host: SandboxHost;
  readonly lock: PrincipalLock;
  /** The descriptor that holds the instance lock. */
  readonly lockFd: number;
  /** This program's arguments. */
  readonly args: readonly string[];
};

export type RenewalStatus = {
  readonly sha256?: string;
  readonly runtime: string;
  /** Why the last `exec-update` left this version running. */
  readonly exec_fault?: string;
  /** The daemon process that was killed because it did not confirm in time that it works. */
  readonly ended_daemon?: number;
};

export class Renewal implements Disposable {
  readonly #deps: RenewalDeps;
  readonly #own: Build | undefined;
  #server: { readonly server: CborServer; readonly isOurs: boolean } | undefined;
  #fault: string | undefined;
  #underWay = false;
  #stopped = false;
  readonly #watch: DaemonWatch;

  constructor(deps: RenewalDeps) {
    this.#deps = deps;
    this.#own = readOwnBuild(PROGRAM);
    const { layout } = deps.host.config;
    const record = readWatchdogRecord(layout, "launcher", deps.host.clock.now());
    if (record !== undefined && record.previous_binary === this.#own?.path && record.boot_id === bootId())
      this.#fault = "it ended before it had proven itself";
    clearWatchdogRecord(layout, "launcher");
    this.#watch = new DaemonWatch({ layout, clock: deps.host.clock, log: deps.log });
  }

  /** Sets the server whose socket the next build inherits. `isOurs`: the launcher created its file, not systemd. */
  setServer(server: CborServer, isOurs: boolean): void {
    this.#server = { server, isOurs };
  }

  get status(): RenewalStatus {
    const sha256 = this.#own?.programs[PROGRAM];
    return {
      ...(sha256 === undefined ? {} : { sha256 }),
      runtime: Bun.version,
      ...(this.#fault === undefined ? {} : { exec_fault: this.#fault }),
      ...(this.#watch.ended === undefined ? {} : { ended_daemon: this.#watch.ended }),
    };
  }

  /** The build this launcher runs from; the folder it was started with when it runs from no build. */
  get buildDir(): string {
    return this.#own?.path ?? this.#deps.host.config.buildDir;
  }

  /**
   * Checks whether the build can be executed, and executes it after the request is answered; then `status` has the result.
   * `requireWanted` throws when the client has disconnected.
   * @throws BureauError when it cannot be executed, with nothing changed
   */
  async begin(buildDir: string, requestId: string, requireWanted: () => void): Promise<void> {
    if (this.#underWay) throw new BureauError("conflict", "The launcher is being replaced already");
    if (this.#stopped) throw new BureauError("conflict", "The launcher is being stopped");
    this.#underWay = true;
    let next: Build;
    try {
      next = await this.#look(buildDir);
      requireWanted();
      if (this.#stopped) throw new BureauError("conflict", "The launcher is being stopped");
    } catch (error) {
      this.#underWay = false;
      throw error;
    }
    this.#fault = undefined;
    setTimeout(() => {
      this.#replace(next, requestId)
        .catch((error: unknown) => this.#fail(`it could not be replaced: ${messageOf(error)}`))
        .finally(() => {
          this.#underWay = false;
        });
    }, 0);
  }

  /** @throws BureauError when the launcher there must not, or cannot, be executed */
  async #look(buildDir: string): Promise<Build> {
    const cannot = `Cannot run the launcher in "${buildDir}"`;
    const place = faultOfPlace(buildDir, this.#deps.host.config.layout);
    if (place !== undefined) throw new BureauError("forbidden", `${cannot}: ${place}`);
    const next = readBuild(buildDir);
    if (contentOf(next, PROGRAM) === undefined)
      throw new BureauError("not-found", `There is no launcher in "${buildDir}"`);
    const fault = await wholeFaultOf(next, [PROGRAM]);
    if (fault !== undefined) throw new BureauError("invalid-input", `${cannot}: ${fault}`);
    return next;
  }

  async #replace(next: Build, requestId: string): Promise<void> {
    const buildDir = next.path;
    const { host, lock, lockFd, args, log } = this.#deps;
    const { layout } = host.config;
    if (this.#server === undefined) throw new BureauError("failed", "the launcher does not listen yet");
    const { server, isOurs } = this.#server;
    const deadline = host.clock.monotonic() + REPLACE_MS_MAX;
    const left = (): number => Math.max(0, deadline - host.clock.monotonic());
    await endOwn(host);
    const socket = await server.handOver(left());
    const late = `what was under way took more than ${REPLACE_MS_MAX / 1_000} s`;
    try {
      if (socket === undefined) return this.#fail(late);
      // From here clients wait.
      if (!(await inTime(lock.idle(), left()))) return this.#fail(late);
      await endOwn(host);
      if (this.#stopped) return this.#fail("it is being stopped");
      if (left() === 0) return this.#fail(late);
      log.info("launcher.exec", "executing another build of the launcher", { by: buildDir });
      writeWatchdogRecord(layout, {
        component: "launcher",
        previous_binary: this.buildDir,
        new_binary: buildDir,
        timestamp: Math.floor(host.clock.now() / 1_000),
        request_id: requestId,
        boot_id: bootId(),
      });
      pingWatchdog();
      const errno = replaceProcess({
        file: runtimeOf(buildDir),
        args: [...argumentsFor(next, PROGRAM), ...withBuildDir(args, buildDir)],
        env: process.env,
        sockets: [{ fd: socket.fd, name: socketNames.launcher, isOurs }],
        // The next version inherits the lock, so no other launcher can take it.
        keep: { [LOCK_FD]: lockFd },
      });
      clearWatchdogRecord(layout, "launcher");
      this.#fail(`its runtime "${runtimeOf(buildDir)}" cannot be executed: ${errno}`);
    } finally {
      // After any failure this launcher keeps running.
      if (!this.#stopped) {
        await server.resume();
        host.proxies.spares.refill();
      }
    }
  }

  #fail(reason: string): void {
    this.#fault = reason;
    this.#deps.log.error("launcher.exec-failed", "cannot replace this launcher; it keeps running", {
      reason,
    });
  }

  /** See {@link DaemonWatch.begin}. */
  watch(daemon: ProcessId, deadlineMs: number): void {
    this.#watch.begin(daemon, deadlineMs);
  }

  release(pid: number): void {
    this.#watch.release(pid);
  }

  /** The launcher stops: refuses any later replacement. */
  [Symbol.dispose](): void {
    this.#stopped = true;
    this.#watch[Symbol.dispose]();
  }
}

/** Ends what the next program cannot use. Runs before clients wait, and again for what their requests opened since. */
async function endOwn(host: SandboxHost): Promise<void> {
  await host.proxies.spares.end();
  host.tmux.disconnect();
}

/** The same arguments with another build. */
function withBuildDir(args: readonly string[], buildDir: string): string[] {
  const flag = "--programs-dir";
  const kept = args.filter(
    (arg, index) => arg !== flag && !arg.startsWith(`${flag}=`) && args[index - 1] !== flag,
  );
  return [...kept, flag, buildDir];
}
