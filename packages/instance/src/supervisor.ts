/**
 * Keeps a rootless instance's three programs running, as systemd does for a system installation. It knows nothing of
 * Matrix: over its own socket `bureau up` asks it to start programs, and `bureau down` to stop all of them.
 *
 * Its programs outlive a supervisor that is killed. Their process identities are in the supervisor's state file, and the
 * next supervisor adopts those that still run.
 */
import { join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { faultOfPlace } from "@bureau/os/build-place";
import { action, serveCbor } from "@bureau/os/cbor-server";
import { environmentOfEgress } from "@bureau/os/egress";
import { bootstrapFile, type InstanceLayout, makePrivateDir, programLog } from "@bureau/os/layout";
import { aborted } from "@bureau/os/lifecycle";
import { realPath } from "@bureau/os/own-build";
import type { ProcessId } from "@bureau/os/process-table";
import { type Instance, listenFlags, requireInstance } from "./instance.ts";
import { type ProgramPlan, SupervisedProgram } from "./supervised-program.ts";
import { tryToSupervise } from "./supervisor-lock.ts";
import { readRecorded, recordRunning } from "./supervisor-state.ts";
import { type ProgramName, programNames, supervisorRequests } from "./supervisor-wire.ts";
import { LAUNCHER_GRACE_MS, PROGRAM_GRACE_MS, sweep } from "./sweep.ts";

export type SupervisorConfig = { readonly layout: InstanceLayout; readonly buildDir: string };
export type SupervisorDeps = {
  readonly log: Log;
  readonly clock?: Clock;
  readonly env: Readonly<Record<string, string | undefined>>;
};

/**
 * Runs until `signal` aborts or a `stop` request arrives, then stops every program and returns.
 * @throws BureauError `conflict` when the instance has a supervisor already
 */
export async function runSupervisor(
  config: SupervisorConfig,
  deps: SupervisorDeps,
  signal: AbortSignal,
): Promise<void> {
  const { layout } = config;
  makePrivateDir(layout.home);
  makePrivateDir(layout.runDir);
  using lock = tryToSupervise(layout);
  if (lock === undefined)
    throw new BureauError("conflict", `The instance "${layout.home}" is supervised already`, {
      hint: "bureau status",
    });
  const stopAsked = new AbortController();
  const programs = new SupervisedPrograms(config, deps);
  programs.adoptRecorded();
  await using _server = await serveCbor({
    listen: { path: layout.supervisorSocket, mode: 0o600 },
    log: deps.log,
    actions: {
      status: action(supervisorRequests.status, async () => ({
        pid: process.pid,
        programs: programs.reports(),
      })),
      start: action(supervisorRequests.start, async ({ program }) => programs.start(program)),
      stop: action(supervisorRequests.stop, async () => stopAsked.abort()),
    },
  });
  deps.log.info("supervisor.ready", "supervising", { home: layout.home });
  await aborted(AbortSignal.any([signal, stopAsked.signal]));
  await programs.stop();
  await sweep(layout, deps.clock ?? systemClock);
}

/** The programs that were started, and the record of their processes. */
class SupervisedPrograms {
  readonly #config: SupervisorConfig;
  readonly #deps: SupervisorDeps;
  readonly #programs = new Map<ProgramName, SupervisedProgram>();
  /** Processes of an earlier supervisor that are not adopted yet. */
  readonly #recorded: Map<ProgramName, ProcessId>;

  constructor(config: SupervisorConfig, deps: SupervisorDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#recorded = readRecorded(config.layout);
  }

  /** Supervises the programs of an earlier supervisor at once, without a request. */
  adoptRecorded(): void {
    for (const name of programNames) if (this.#recorded.has(name)) this.start(name);
  }

  /** Does nothing when the program is supervised already. */
  start(name: ProgramName): void {
    if (this.#programs.get(name)?.hasEnded === false) return;
    const { clock = systemClock, log } = this.#deps;
    const program = new SupervisedProgram(() => this.#planOf(name), {
      clock,
      log,
      changed: () => this.#onChange(),
    });
    this.#programs.set(name, program);
    program.start(this.#recorded.get(name));
    this.#recorded.delete(name);
  }

  reports(): ReturnType<SupervisedProgram["report"]>[] {
    return [...this.#programs.values()].map((program) => program.report());
  }

  /** In the opposite order of their start. */
  async stop(): Promise<void> {
    for (const name of [...programNames].reverse()) await this.#programs.get(name)?.stop();
  }

  #onChange(): void {
    // A revoked machine runs nothing: the launcher stops the sandboxes that the daemon did not. This comes first, because
    // recording may throw; the next change records again.
    const launcher = this.#programs.get("launcher");
    if (this.#programs.get("daemon")?.report().state === "revoked" && launcher?.hasEnded === false)
      void launcher.stop();
    recordRunning(this.#config.layout, this.#programs);
  }

  /** Read at each start: `bureau up` may have changed where the homeserver listens. */
  #planOf(name: ProgramName): ProgramPlan {
    const instance = requireInstance(this.#config.layout);
    return planOf(name, instance, bootPrograms(this.#config, this.#deps.log), this.#deps.env);
  }
}

/** The build that the last upgrade confirmed; without one, or when it cannot be started, that of the supervisor. */
function bootPrograms({ layout, buildDir }: SupervisorConfig, log: Log): string {
  const confirmed = realPath(layout.currentPrograms);
  if (confirmed === undefined) return buildDir;
  const fault = faultOfPlace(layout.currentPrograms, layout);
  if (fault === undefined) return confirmed;
  log.error("upgrade.boot-link-unusable", "the build of the last upgrade cannot be started", {
    path: confirmed,
    reason: fault,
  });
  return buildDir;
}

/** The variables that a program gets of the supervisor's environment. */
const environmentKept = [
  "PATH",
  "HOME",
  "USER",
  "LANG",
  "TZ",
  "XDG_RUNTIME_DIR",
  "BUREAU_LOG",
  "BUREAU_UPGRADE_TIMES",
];

/** Command, environment and log of one program. */
function planOf(
  name: ProgramName,
  instance: Instance,
  buildDir: string,
  env: Readonly<Record<string, string | undefined>>,
): ProgramPlan {
  const { layout } = instance;
  const kept = environmentKept.flatMap((key) => (env[key] === undefined ? [] : [[key, env[key]]]));
  return {
    name,
    command: [join(buildDir, "bin", `bureau-${name}`), ...flagsOf(name, instance, buildDir)],
    env: { ...environmentOfEgress(instance.egress), ...Object.fromEntries(kept) },
    logFile: programLog(layout, name),
    graceMs: name === "launcher" ? LAUNCHER_GRACE_MS : PROGRAM_GRACE_MS,
  };
}

function flagsOf(name: ProgramName, instance: Instance, buildDir: string): readonly string[] {
  const { layout } = instance;
  const machine = [
    ...["--homeserver", instance.homeserverUrl, "--machine-name", instance.machine],
    ...["--server-name", instance.serverName, "--fleet", instance.fleet],
    ...["--run-dir", layout.runDir, "--state-dir", layout.stateDir, "--workspace-root", layout.workspaceRoot],
  ];
  switch (name) {
    case "homeserver":
      return [
        ...["--data-dir", layout.homeserverDir, "--server-name", instance.serverName],
        ...listenFlags(instance),
        ...["--registration-token-file", layout.registrationTokenFile],
      ];
    case "launcher":
      return [
        ...machine,
        ...["--cache-root", layout.cacheRoot, "--programs-dir", buildDir],
        ...["--bootstrap-file", bootstrapFile(layout)],
      ];
    case "daemon":
      return [...machine, "--boot-link", layout.currentPrograms];
  }
}
