/**
 * Keeps a rootless instance's three programs running, as systemd does for a system installation. It knows nothing of
 * Matrix: `bureau up` tells it what to start, over its own socket, and `bureau down` to stop everything.
 *
 * A supervisor that is killed takes nothing with it. What it had started stands in `supervisor.json` by process
 * identity, and the next one adopts what is still alive.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { faultOfPlace } from "@bureau/os/build-place";
import { action, serveCbor } from "@bureau/os/cbor-socket";
import { readIfPresent, removeDurably, writeDurably } from "@bureau/os/durable-file";
import { environmentOfEgress } from "@bureau/os/egress";
import type { InstanceLayout } from "@bureau/os/layout";
import { machineSessionFile, makePrivateDir, tmuxSocket } from "@bureau/os/layout";
import { aborted } from "@bureau/os/lifecycle";
import { findInhabitants } from "@bureau/os/mounts";
import { realPath } from "@bureau/os/own-build";
import {
  descendantsOf,
  findByArguments,
  findProcesses,
  type ProcessId,
  signalProcess,
  waitUntilGone,
} from "@bureau/os/process-table";
import { removeTree } from "@bureau/os/remove-tree";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { type Instance, listenFlags, requireInstance } from "./instance.ts";
import { type ProgramPlan, SupervisedProgram } from "./supervised-program.ts";
import { tryToSupervise } from "./supervisor-lock.ts";
import { type ProgramName, programNames, supervisorRequests } from "./supervisor-wire.ts";

const StateSchema = v.object({
  programs: v.record(v.string(), v.object({ pid: v.number(), startTicks: v.number() })),
});

/** The launcher's own grace for sandboxes is 5 s, then it kills; twice that and some is a hang. */
const LAUNCHER_GRACE_MS = 15_000;
const PROGRAM_GRACE_MS = 8_000;
/** A process that was killed is gone in milliseconds, unless a disk or a network file system keeps it. */
const SWEEP_MS_MAX = 30_000;

export type SupervisorConfig = { readonly layout: InstanceLayout; readonly programsDir: string };
export type SupervisorDeps = {
  readonly log: Log;
  readonly clock?: Clock;
  readonly env: Readonly<Record<string, string | undefined>>;
};

/**
 * Runs until `signal` aborts or somebody sends `stop`, then stops everything and returns.
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
  const stopping = AbortSignal.any([signal, stopAsked.signal]);
  const programs = new Map<ProgramName, SupervisedProgram>();
  const left = readLeft(layout);
  const onChange = (): void => {
    // A machine that was revoked runs nothing: what the daemon could not destroy in its time, the launcher does. First,
    // because saving may throw; what could not be saved is with the next change.
    const launcher = programs.get("launcher");
    if (programs.get("daemon")?.report().state === "revoked" && launcher?.hasEnded === false)
      void launcher.stop();
    saveState(layout, programs);
  };
  const start = (name: ProgramName): void => {
    const running = programs.get(name);
    if (running !== undefined && !running.hasEnded) return;
    // Read at each start: `bureau up` may have changed where the homeserver listens.
    const plan = () => planOf(name, requireInstance(layout), bootPrograms(config, deps.log), deps.env);
    const program = new SupervisedProgram(plan, {
      clock: deps.clock ?? systemClock,
      log: deps.log,
      changed: onChange,
    });
    programs.set(name, program);
    program.start(left.get(name));
    left.delete(name);
  };
  // What an earlier supervisor left running is watched again at once, without being asked.
  for (const name of programNames) if (left.has(name)) start(name);
  await using _server = await serveCbor({
    listen: { path: layout.supervisorSocket, mode: 0o600 },
    log: deps.log,
    actions: {
      status: action(supervisorRequests.status, async () => ({
        pid: process.pid,
        programs: [...programs.values()].map((program) => program.report()),
      })),
      start: action(supervisorRequests.start, async ({ program }) => start(program)),
      stop: action(supervisorRequests.stop, async () => stopAsked.abort()),
    },
  });
  deps.log.info("supervisor.ready", "supervising", { home: layout.home });
  await aborted(stopping);
  for (const name of [...programNames].reverse()) await programs.get(name)?.stop();
  await sweep(layout, deps.clock ?? systemClock);
}

/** The version that is known to work: what an upgrade has left, else what `bureau up` was started with. */
function bootPrograms({ layout, programsDir }: SupervisorConfig, log: Log): string {
  const left = realPath(layout.currentPrograms);
  if (left === undefined) return programsDir;
  const fault = faultOfPlace(layout.currentPrograms, layout);
  if (fault === undefined) return left;
  log.error("upgrade.boot-link-unusable", "the version set by the last upgrade cannot be started", {
    path: left,
    reason: fault,
  });
  return programsDir;
}

/** How each program is started. The launcher and daemon get no more of the environment than they need. */
function planOf(
  name: ProgramName,
  instance: Instance,
  programsDir: string,
  env: Readonly<Record<string, string | undefined>>,
): ProgramPlan {
  const { layout } = instance;
  const machine = [
    ...["--homeserver", instance.homeserverUrl, "--machine-name", instance.machine],
    ...["--server-name", instance.serverName, "--fleet", instance.fleet],
    ...["--run-dir", layout.runDir, "--state-dir", layout.stateDir, "--workspace-root", layout.workspaceRoot],
  ];
  const flags: Record<ProgramName, readonly string[]> = {
    homeserver: [
      ...["--data-dir", layout.homeserverDir, "--server-name", instance.serverName],
      ...listenFlags(instance),
      ...["--registration-token-file", layout.registrationTokenFile],
    ],
    launcher: [
      ...machine,
      ...["--cache-root", layout.cacheRoot, "--programs-dir", programsDir],
      ...["--bootstrap-file", bootstrapFile(layout)],
    ],
    daemon: [...machine, "--boot-link", layout.currentPrograms],
  };
  const kept = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "XDG_RUNTIME_DIR",
    "BUREAU_LOG",
    "BUREAU_UPGRADE_TIMES",
  ];
  return {
    name,
    command: [join(programsDir, "bin", `bureau-${name}`), ...flags[name]],
    env: {
      ...environmentOfEgress(instance.egress),
      ...Object.fromEntries(kept.flatMap((key) => (env[key] === undefined ? [] : [[key, env[key]]]))),
    },
    logFile: join(layout.logDir, `${name}.log`),
    graceMs: name === "launcher" ? LAUNCHER_GRACE_MS : PROGRAM_GRACE_MS,
  };
}

/** The one-time password the launcher joins with; gone once it has. */
export const bootstrapFile = (layout: InstanceLayout): string => join(layout.stateDir, "bootstrap.json");

/** True once the machine has a session of its own. */
export const hasJoined = (layout: InstanceLayout): boolean =>
  readIfPresent(machineSessionFile(layout)) !== undefined;

function readLeft(layout: InstanceLayout): Map<ProgramName, ProcessId> {
  const left = new Map<ProgramName, ProcessId>();
  const text = readIfPresent(layout.supervisorStateFile);
  if (text === undefined) return left;
  const { programs } = parseJson(StateSchema, text, layout.supervisorStateFile);
  for (const name of programNames) {
    const process = programs[name];
    if (process !== undefined) left.set(name, process);
  }
  return left;
}

function saveState(layout: InstanceLayout, programs: ReadonlyMap<ProgramName, SupervisedProgram>): void {
  const running = [...programs].flatMap(([name, { process }]) =>
    process === undefined ? [] : [[name, process]],
  );
  writeDurably(layout.supervisorStateFile, JSON.stringify({ programs: Object.fromEntries(running) }), 0o600);
}

/**
 * Stops whatever of the instance still runs and removes its sockets: what is left when a supervisor was killed, or a
 * program did not stop when told. Only for who holds the supervisor's lock.
 * @throws BureauError `timeout` with the processes that cannot be ended
 */
export async function sweep(layout: InstanceLayout, clock: Clock): Promise<string[]> {
  const swept: string[] = [];
  const left = [...readLeft(layout)].reverse();
  for (const process of [...left.map(([, id]) => id), ...strays(layout)]) {
    if (!signalProcess(process, "SIGTERM")) continue;
    swept.push(`process ${process.pid}`);
    if (!(await waitUntilGone(process, LAUNCHER_GRACE_MS, clock))) signalProcess(process, "SIGKILL");
    await waitUntilGone(process, PROGRAM_GRACE_MS, clock);
  }
  await endAll(() => [...strays(layout), ...findInhabitants(layout.runDir)], clock);
  removeDurably(layout.supervisorStateFile);
  for (const entry of readdir(layout.runDir)) {
    removeTree(join(layout.runDir, entry));
    if (entry !== "supervisor.sock" && entry !== "fleet") swept.push(entry);
  }
  return swept;
}

/** Shells that run a sandbox's script; they outlive the terminal for a moment. */
const findPaneShells = (layout: InstanceLayout): ProcessId[] =>
  findProcesses(
    ([shell = "", script = ""]) => shell.endsWith("/sh") && script.startsWith(`${layout.runDir}/`),
  );

/** The instance's processes, found by their command lines. */
const strays = (layout: InstanceLayout): ProcessId[] => [
  ...findByArguments("--run-dir", layout.runDir),
  ...findByArguments("--data-dir", layout.homeserverDir),
  ...findByArguments("-S", tmuxSocket(layout)),
  ...findPaneShells(layout),
];

/**
 * Kills the processes that `find` returns and their descendants, until it returns none: a process may have started another
 * one in between. When this returns, none of them runs. @throws BureauError `timeout`
 */
async function endAll(find: () => ProcessId[], clock: Clock): Promise<void> {
  const deadline = clock.monotonic() + SWEEP_MS_MAX;
  for (let found = find(); found.length > 0; found = find()) {
    const killed = [...found, ...found.flatMap(({ pid }) => descendantsOf(pid))];
    for (const process of killed) signalProcess(process, "SIGKILL");
    // They die together, so the wait for all is hardly more than for one.
    for (const process of killed)
      if (!(await waitUntilGone(process, Math.max(0, deadline - clock.monotonic()), clock)))
        throw new BureauError("timeout", `Process ${process.pid} of this Bureau cannot be ended`, {
          hint: `ps -o pid,stat,wchan,args -p ${process.pid} shows what it waits for; then bureau down`,
        });
  }
}

function readdir(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
