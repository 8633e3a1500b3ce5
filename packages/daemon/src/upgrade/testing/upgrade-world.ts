/**
 * A machine that upgrades, for tests: the real upgrader on real files, with a simulated launcher, homeserver and exec.
 * Time passes only during a wait.
 */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { digestOfProgram, readBuild, runtimeOf } from "@bureau/os/build";
import type { Layout } from "@bureau/os/layout";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { MachineVersion } from "@bureau/schema/events";
import { parsePrincipalName } from "@bureau/schema/refs";
import type { Launcher } from "../../launcher/launcher-client.ts";
import { openUpgradeHost } from "../upgrade-host.ts";
import { upgradeTimes } from "../upgrade-times.ts";
import { Upgrader } from "../upgrader.ts";

const WORKER = parsePrincipalName("agent/worker");
const PROGRAMS = ["bureau-daemon", "bureau-launcher", "bureau-proxy"];
/** A wait of this length is a wait for an event. */
const FOREVER_MS = 3_600_000;
/** Answers of a launcher before it ends. */
const ANSWERS_MAX = 8;
const OUTAGE_MS = 5_000;
const BLIP_AFTER_MS = 7_000;
/** Execs in a row; more would be an endless loop. */
const PROGRAMS_MAX = 12;

/** How the new build fails, if it does. */
export type Flaw =
  | "none"
  /** The daemon ends as soon as it is executed. */
  | "exits"
  /** It does not reach the homeserver; the old daemon does. */
  | "deaf"
  /** The launcher does not know the sandboxes that ran. */
  | "forgets"
  /** The launcher ends after it has answered, and the old one starts and answers in its place. */
  | "launcher-exits";

/** A build whose programs only print their version. */
export function makeEnvironment(path: string, version: string): string {
  const programs: Record<string, { sha256: string }> = {};
  for (const name of PROGRAMS) {
    mkdirSync(join(path, "lib", name), { recursive: true });
    mkdirSync(join(path, "bin"), { recursive: true });
    writeFileSync(join(path, "lib", name, "main.js"), `// ${version}\n`);
    writeFileSync(join(path, "bin", name), "");
    chmodSync(join(path, "bin", name), 0o755);
    programs[name] = { sha256: digestOfProgram(join(path, "lib", name)) };
  }
  mkdirSync(dirname(runtimeOf(path)), { recursive: true });
  copyFileSync("/bin/true", runtimeOf(path));
  writeFileSync(join(path, "build.json"), JSON.stringify({ version, runtime: "1", programs }));
  return realpathSync(path);
}

export class UpgradeWorld {
  readonly layout: Layout;
  readonly bootLink: string;
  /** The build of the running launcher. */
  launcherFrom: string;
  /** The build content that the daemon last published. */
  said: MachineVersion | undefined;
  /** The number of further programs that do not reach the homeserver. */
  outage = 0;
  /** How long the new build does not reach the homeserver, seven seconds after it started. */
  blipMs = 0;
  /** How long the homeserver accepts requests without an answer, from the first exec of the new build. */
  hangMs = 0;
  /** The request for its sandboxes that the new launcher does not answer, counted from one. */
  unheard = 0;
  /** A sandbox takes longer to start or to stop than the limit. */
  isBusy = false;
  /** Called at each exec. */
  onExec: () => void = () => {};
  /** The running program. */
  upgrader: Upgrader | undefined;
  /** Programs that were executed, in order. */
  readonly executed: string[] = [];
  /** Requests to the launcher, and pauses and resumes of the reconciler. */
  readonly acts: string[] = [];
  #answers = 0;
  #lists = 0;
  #hangsUntil = 0;
  #timeMs = 1_800_000_000_000;

  constructor(
    /** Contains all that upgrades write. */
    readonly root: string,
    readonly request: { readonly request_id: string; readonly path: string },
    readonly flaw: Flaw,
  ) {
    this.layout = {
      runDir: join(root, "run"),
      stateDir: join(root, "state"),
      workspaceRoot: join(root, "workspace"),
      cacheRoot: join(root, "cache"),
    };
    this.bootLink = join(root, "programs", "current");
    this.launcherFrom = realpathSync(this.bootLink);
  }

  /** The folders of a machine that boots `path`. */
  static prepare(root: string, path: string): void {
    for (const name of ["run", "state", "programs"]) mkdirSync(join(root, name), { recursive: true });
    symlinkSync(path, join(root, "programs", "current"));
  }

  /** The build that boots. @throws when it is not complete */
  get booted(): string {
    return readBuild(realpathSync(this.bootLink)).path;
  }

  /** Runs daemons one after another, the first of them booted, until the request is finished. */
  async runToTheEnd(): Promise<void> {
    let path = this.booted;
    for (let count = 0; count < PROGRAMS_MAX; count++) {
      const next = await this.#runOne(path);
      if (next === undefined) return;
      if (this.executed.length === 0) this.#hangsUntil = this.#timeMs + this.hangMs;
      this.executed.push(next);
      // The service manager starts the daemon again, through the link.
      path = this.#isNew(next) && this.flaw === "exits" ? this.booted : next;
    }
    throw new Error(
      `no end to it: ${readFileSync(join(this.layout.stateDir, "upgrade-state.json"), "utf8")}`,
    );
  }

  #isBlip(path: string, began: number): boolean {
    const spent = this.#timeMs - began - BLIP_AFTER_MS;
    return this.#isNew(path) && spent >= 0 && spent < this.blipMs;
  }

  #isNew(path: string): boolean {
    return path === this.request.path;
  }

  /** Undefined when the request is finished, else the program that replaces this one. */
  async #runOne(path: string): Promise<string | undefined> {
    const stop = new AbortController();
    const began = this.#timeMs;
    let isRecalled = false;
    const ended = Promise.withResolvers<string | undefined>();
    const isAway = this.outage-- > 0;
    const isDeaf = isAway || (this.#isNew(path) && this.flaw === "deaf");
    const upgrader: Upgrader = new Upgrader({
      host: openUpgradeHost(this.layout, this.bootLink, silentLog),
      own: readBuild(path),
      launcher: this.#launcher(),
      times: upgradeTimes("{}"),
      clock: this.#clock(),
      log: silentLog,
      wanted: () => this.request,
      said: () => this.said,
      // An outage ends some time after the old daemon has detected it.
      isOnline: () =>
        this.#timeMs >= this.#hangsUntil &&
        !this.#isBlip(path, began) &&
        (!isDeaf || (!this.#isNew(path) && this.#timeMs > began + OUTAGE_MS)),
      isAway: () => isDeaf && this.#timeMs <= began + OUTAGE_MS,
      isEchoed: () => true,
      changed: () => {
        // Only a daemon that knows the content of the room replaces it.
        if (!isRecalled) return;
        this.said = upgrader.content;
        const { history, state } = this.said;
        const isOver = history.some(({ request_id }) => request_id === this.request.request_id);
        if (isOver && state !== "upgrading") queueMicrotask(() => ended.resolve(undefined));
      },
      notify: () => {},
      cache: () => undefined,
      reconciler: {
        pause: async () => {
          this.acts.push("pause");
          return !this.isBusy;
        },
        resume: () => void this.acts.push("resume"),
      },
      become: async (next, { env, last } = {}) => {
        await last?.();
        Object.assign(process.env, env);
        this.onExec();
        ended.resolve(next);
        // Exec has replaced this program.
        return await new Promise<never>(() => {});
      },
    });
    this.upgrader = upgrader;
    const running = upgrader.run(stop.signal);
    running.catch(ended.reject);
    // While the homeserver is unreachable, time advances by itself.
    const passing = setInterval(() => {
      if (!isAway) return;
      this.#timeMs += 1_000;
      upgrader.mark();
    }, 1);
    upgrader.mark();
    void upgrader.recalled.then(() => {
      isRecalled = true;
      upgrader.mark();
    });
    const next = await ended.promise;
    clearInterval(passing);
    stop.abort();
    return next;
  }

  #launcher(): Launcher {
    const answers: Record<string, (request: Record<string, unknown>) => object> = {
      status: () => {
        const isNew = this.#isNew(this.launcherFrom);
        if (isNew && this.flaw === "launcher-exits" && ++this.#answers > ANSWERS_MAX)
          this.launcherFrom = this.booted;
        return { pid: process.pid, programs_dir: this.launcherFrom };
      },
      "list-sandboxes": () => {
        if (this.#isNew(this.launcherFrom) && ++this.#lists === this.unheard)
          throw new BureauError("unavailable", "no answer");
        const forgot = this.#isNew(this.launcherFrom) && this.flaw === "forgets";
        return { revision: 1, sandboxes: forgot ? [] : [{ principal: WORKER, state: "running" }] };
      },
      "watched-ok": () => {
        this.acts.push("watched-ok");
        return {};
      },
      "exec-update": ({ programs_dir }) => {
        this.acts.push("exec-update");
        this.launcherFrom = String(programs_dir);
        return {};
      },
    };
    return {
      call: async (action, request) => (answers[action]?.(request as Record<string, unknown>) ?? {}) as never,
    };
  }

  #clock(): Clock {
    return {
      now: () => this.#timeMs,
      monotonic: () => this.#timeMs,
      sleep: async (ms, signal) => {
        if (ms >= FOREVER_MS)
          return await new Promise<void>((resolve) => {
            if (signal?.aborted) resolve();
            else signal?.addEventListener("abort", () => resolve(), { once: true });
          });
        this.#timeMs += ms;
        await Bun.sleep(0);
      },
    };
  }
}
