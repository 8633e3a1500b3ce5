/**
 * Creates a sandbox completely, or leaves nothing of it. It checks everything that it can refuse before it creates anything.
 * It writes the record first, so that after a crash of the launcher the next one finds and clears the sandbox.
 */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  realpathSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { tmuxSession } from "@bureau/os/layout";
import { mountsOf } from "@bureau/os/mounts";
import { limitProcess, makeFifo } from "@bureau/os/posix";
import { identify, isAlive, type ProcessId } from "@bureau/os/process-table";
import { insidePaths } from "@bureau/schema/inside-paths";
import type { launcherRequests, SandboxSpec } from "@bureau/schema/launcher-ipc";
import { type PrincipalName, SOCKET_PATH_BYTES_MAX, sanitised } from "@bureau/schema/refs";
import { type SecurityException, securityExceptions } from "@bureau/schema/template";
import type * as v from "valibot";
import type { CredentialBundle } from "../keys.ts";
import { prepareGroups } from "../limits/prepare-groups.ts";
import { processLimits, type ResourceLimits, resourceLimits } from "../limits/resource-limits.ts";
import { openBundle, proxyStartOf } from "../proxy-start.ts";
import { type BwrapContext, bwrapArguments, insideIds, refuseUnsupported } from "./bwrap-arguments.ts";
import { clearSandbox, destroySandbox } from "./destroy.ts";
import { exitOutputOf, finalScreen } from "./exit-account.ts";
import { withoutHostTools } from "./host-tools.ts";
import { layersOf } from "./layers.ts";
import { findStrayMount, isBuilt } from "./mount-check.ts";
import { makeMountPoint, nestedPoints } from "./mount-points.ts";
import { type ResolvedMount, resolveMount } from "./mount-policy.ts";
import { placeServices } from "./place-services.ts";
import { type ProcMasks, procEntries, procMasks } from "./proc-masks.ts";
import { bootId, type SandboxProcesses, type SandboxRecord } from "./record.ts";
import { sandboxEnvironment } from "./sandbox-environment.ts";
import {
  environmentLinks,
  linkRoot,
  linkSockets,
  makeSandboxFolder,
  placeSecrets,
  writeArguments,
  writeEtc,
  writePayload,
} from "./sandbox-files.ts";
import { groupName, pathsOf, type SandboxHost } from "./sandbox-host.ts";
import { killAll, untilBuilt, untilProgramRuns } from "./sandbox-processes.ts";
import { sandboxScript, startGate } from "./script.ts";
import { seccompFilter } from "./seccomp/seccomp-filter.ts";
import { expandVariables, templateVariables, type Variables } from "./variables.ts";

/** Linux's limit (HOST_NAME_MAX). */
const HOSTNAME_BYTES_MAX = 64;

/** A parsed `create-sandbox` request. */
export type CreateRequest = v.InferOutput<(typeof launcherRequests)["create-sandbox"]>;

type Plan = {
  readonly variables: Variables;
  readonly mounts: ResolvedMount[];
  readonly scratch: string | undefined;
  readonly environmentLinks: { target: string; dest: string }[];
  readonly command: string[];
  readonly limits: ResourceLimits;
  readonly masks: ProcMasks;
};

/** @throws BureauError that names the step, with nothing of the sandbox left */
export async function createSandbox(
  host: SandboxHost,
  request: CreateRequest,
): Promise<{ pid?: number; proxy_pid: number }> {
  const { principal } = request;
  const existing = host.table.get(principal);
  if (existing?.phase === "running")
    throw new BureauError("conflict", `Cannot create the sandbox of "${principal}": it runs already`, {
      hint: "destroy it first",
    });
  using _refill = host.proxies.spares.pauseRefill();
  const step = stepsOf(principal);
  const plan = await step("check", async () => planSandbox(host, request));
  const unseal = (): Promise<CredentialBundle> => step("credentials", () => openBundle(host.key, request));
  // Secrets go into the sandbox's files; otherwise credentials are unsealed while bubblewrap works.
  const early = (request.sandbox_spec.secrets ?? []).length > 0 ? await unseal() : undefined;
  if (existing !== undefined) await destroySandbox(host, principal, { force: true, graceMs: 0 });
  let building: Promise<ProcessId> | undefined;
  let starting: Promise<ProcessId> | undefined;
  try {
    makeSandboxFolder(pathsOf(host, principal), host.config.operatorsGid);
    await step("terminal", () => prepareGroups(host));
    const record = newRecord(host, request);
    host.table.put(record);
    const sources = await step("files", async () => writeFiles(host, request, plan, early));
    // bubblewrap and the proxy start concurrently; the program waits at its gate for both.
    building = step("terminal", () => buildSandbox(host, principal, sources, plan));
    building.catch(() => {});
    const start = proxyStartOf(host.config, principal, request, early ?? (await unseal()));
    starting = step("proxy", () => host.proxies.start(start, pathsOf(host, principal).dir));
    starting.catch(() => {});
    const shell = await building;
    const proxy = await starting;
    const processes = await step("program", () => runProgram(host, principal, shell));
    host.table.put({
      ...record,
      phase: "running",
      proxy,
      processes,
      ...confinementOf(host, processes, request, plan.masks),
    });
    host.watch.add(principal, processes);
    const pid = processes.program?.pid;
    host.log.info("sandbox.created", "sandbox created", { principal, pid, proxy: proxy.pid });
    return { ...(pid === undefined ? {} : { pid }), proxy_pid: proxy.pid };
  } catch (error) {
    // Waits for the starts that run: clearing would miss processes that do not exist yet.
    await building?.catch(() => undefined);
    const proxy = await starting?.catch(() => undefined);
    await clearSandbox(host, principal, proxy).catch((left: unknown) => {
      host.log.error("sandbox.clear-failed", "cannot clear a sandbox that failed to start", {
        principal,
        error: left,
      });
      host.clearLater(principal);
    });
    throw error;
  }
}

/** Adds sandbox and step to errors; keeps code and hint. */
const stepsOf =
  (principal: PrincipalName) =>
  async <T>(name: string, act: () => Promise<T>): Promise<T> => {
    try {
      return await act();
    } catch (error) {
      const code = isBureauError(error) ? error.code : "failed";
      const hint = isBureauError(error) ? error.hint : "";
      throw new BureauError(
        code,
        `Cannot create the sandbox of "${principal}" (${name}): ${messageOf(error)}`,
        { hint },
      );
    }
  };

/** Makes every decision that can refuse the sandbox, before anything is created. */
function planSandbox(host: SandboxHost, request: CreateRequest): Plan {
  const { principal, sandbox_spec: spec } = request;
  const { adminSocket } = pathsOf(host, principal);
  if (Buffer.byteLength(adminSocket) > SOCKET_PATH_BYTES_MAX)
    throw new BureauError(
      "invalid-input",
      `the name is too long for a socket: "${adminSocket}" has more than ${SOCKET_PATH_BYTES_MAX} bytes`,
      {
        hint: "choose a shorter name, or a shorter run folder for this machine",
      },
    );
  refuseUnsupported(spec);
  const variables = templateVariables(host.config, principal, spec.payload);
  const mounts = withoutHostTools(spec.filesystem ?? []).map((mount) => ({
    ...mount,
    source: mount.source && expandVariables(mount.source, variables, `the mount on "${mount.dest}"`),
    dest: expandVariables(mount.dest, variables, `the mount on "${mount.dest}"`),
  }));
  const command = spec.command.map((word) => expandVariables(word, variables, "the command"));
  const limits = resourceLimits(spec.resources, totalmem());
  return {
    variables,
    limits,
    masks: procMasks(process.getuid?.() ?? 0, procEntries()),
    mounts: mounts
      .map((mount) => resolveMount(mount, host.mountPolicy))
      .filter((mount) => mount !== undefined),
    scratch: scratchFolder(host, variables),
    environmentLinks: environmentLinks(spec.environment_path),
    command: throughBridge(spec, command.length > 0 ? command : ["/bin/sh", "-l"]),
  };
}

/** A program whose template lists hosts runs below a bridge that gives it HTTP_PROXY and HTTPS_PROXY. */
const throughBridge = ({ egress }: SandboxSpec, command: string[]): string[] =>
  (egress ?? []).length === 0
    ? command
    : [`${insidePaths.programs}/bin/bureau-bridge`, "--egress", "--", ...command];

function scratchFolder(host: SandboxHost, variables: Variables): string | undefined {
  const project = variables["PROJECT"];
  if (project === undefined) return undefined;
  const source = join(host.config.layout.workspaceRoot, project, ".scratch");
  const mount = resolveMount({ source, dest: insidePaths.scratch, mode: "rw" }, host.mountPolicy);
  return mount?.type === "bind" ? mount.source : undefined;
}

const newRecord = (host: SandboxHost, request: CreateRequest): SandboxRecord => ({
  boot: bootId(),
  principal: request.principal,
  phase: "creating",
  digests: request.digests,
  started_at: host.clock.now(),
  programs_dir: realpathSync(host.config.buildDir),
});

/** Writes the sandbox's files; returns every host path that it will have mounted. */
function writeFiles(
  host: SandboxHost,
  request: CreateRequest,
  plan: Plan,
  bundle: CredentialBundle | undefined,
): string[] {
  const { principal, sandbox_spec: spec } = request;
  const paths = pathsOf(host, principal);
  const secrets = bundle === undefined ? {} : placeSecrets(paths, spec.secrets, bundle);
  writePayload(paths, spec.payload);
  if (request.services !== undefined) placeServices(host, principal, request.services);
  if (request.trigger_content !== undefined)
    writeFileSync(paths.trigger, request.trigger_content, { mode: 0o600 });
  const environment = sandboxEnvironment(spec, principal, plan.variables, secrets);
  const hostIds = { hostUid: process.getuid?.() ?? 0, hostGid: process.getgid?.() ?? 0 };
  const hostname = sanitised(principal)
    .replaceAll(/[^a-z0-9-]/g, "-")
    .slice(0, HOSTNAME_BYTES_MAX);
  const home = environment["HOME"] ?? insidePaths.home;
  const files = writeEtc(paths, { ...insideIds(hostIds), home, hostname }, spec.namespaces?.net === false);
  const context: BwrapContext = {
    ...hostIds,
    hostname,
    mounts: plan.mounts,
    scratch: plan.scratch,
    files,
    procMasks: plan.masks,
    empty: paths.empty,
    hostTools: host.hostTools,
    environmentLinks: plan.environmentLinks,
    inside: paths.inside,
    serves: paths.serviceLink !== undefined,
    // The link may change to a new build at any time; a sandbox keeps the build it started with.
    buildDir: realpathSync(host.config.buildDir),
    environment,
    tmpfsBytes: plan.limits.tmpfsBytes,
    memoryBytes: plan.limits.memoryBytes,
  };
  makeMountPoints(host, plan, spec.create_dirs ?? []);
  writeFileSync(paths.empty, "", { mode: 0o444 });
  writeFileSync(paths.seccompFilter, seccompFilter(new Set(exceptionsOf(spec))), { mode: 0o600 });
  writeArguments(paths, bwrapArguments(spec, context));
  makeFifo(startGate(paths), 0o600);
  linkSockets(paths);
  return sourcesOf(context);
}

function makeMountPoints({ config: { layout } }: SandboxHost, plan: Plan, folders: readonly string[]): void {
  const roots = [layout.workspaceRoot, layout.cacheRoot].map((root) => realpathSync(root));
  for (const point of nestedPoints(plan.mounts, folders, roots)) makeMountPoint(point);
}

const exceptionsOf = ({ security }: SandboxSpec): SecurityException[] =>
  securityExceptions.filter((exception) => security?.[exception] === true);

/** Reads the program, or pid 1 inside: that one has the same confinement and outlives it. */
function confinementOf(
  host: SandboxHost,
  { shell, program, init }: SandboxProcesses,
  { sandbox_spec: spec }: CreateRequest,
  masks: ProcMasks,
): Pick<SandboxRecord, "confinement"> {
  const inside = [program, init].find((process) => process !== undefined && isAlive(process));
  if (inside === undefined) return {};
  const layers = layersOf(inside.pid, shell.pid, Object.values(masks).flat());
  return { confinement: { layers, exceptions: exceptionsOf(spec), limits: host.groups.fact } };
}

/** The host paths a sandbox may have mounted. Those of a template are resolved already: a second time could differ. */
function sourcesOf(context: BwrapContext): string[] {
  const own = [
    ...context.hostTools.flatMap((tool) => (tool.kind === "bind" ? [tool.path] : [])),
    ...context.files.map(({ source }) => source),
    ...[context.inside, context.buildDir],
    ...(existsSync("/nix/store") ? ["/nix/store"] : []),
  ];
  const asked = context.mounts.flatMap((mount) => (mount.type === "bind" ? [mount.source] : []));
  return [
    ...own.map((path) => realpathSync(path)),
    ...asked,
    ...(context.scratch === undefined ? [] : [context.scratch]),
  ];
}

/** Starts terminal and bubblewrap, and checks its mounts while the program waits. Returns the pane's shell. */
async function buildSandbox(
  host: SandboxHost,
  principal: PrincipalName,
  sources: readonly string[],
  plan: Plan,
): Promise<ProcessId> {
  const paths = pathsOf(host, principal);
  const pid = await startTerminal(host, principal, plan);
  const shell = identify(pid);
  const init = shell && (await untilBuilt(paths, shell, host.clock, isBuilt));
  // bubblewrap has read its arguments, which may contain secrets.
  rmSync(paths.bwrapArguments, { force: true });
  if (shell === undefined || init === undefined) throw await notRun(host, principal);
  const stray = findStrayMount(mountsOf(shell.pid), mountsOf(init.pid), sources);
  if (stray !== undefined)
    throw new BureauError(
      "conflict",
      `"${stray.root}" is mounted on "${stray.point}", but the mount policy allowed another path`,
      {
        hint: "another program changed a folder of the path during the start; try again",
      },
    );
  // Not earlier: in the sandbox's user namespace the kernel counts only its processes.
  limitProcess(init.pid, processLimits(plan.limits));
  return shell;
}

/** Returns the pid of the pane's shell. */
async function startTerminal(host: SandboxHost, principal: PrincipalName, plan: Plan): Promise<number> {
  const { tmux, clock, groups } = host;
  const paths = pathsOf(host, principal);
  const session = tmuxSession(principal);
  const start = async (): Promise<number> => {
    const group = await groups.make(groupName(principal), plan.limits, clock);
    writeFileSync(paths.script, sandboxScript(paths, host.programs, plan.command, group), { mode: 0o600 });
    return await tmux.newSession(session, paths.dir, ["/bin/sh", paths.script]);
  };
  try {
    return await start();
  } catch (error) {
    if (!isBureauError(error) || error.code !== "unavailable") throw error;
    // Ends what the server may have started before it exited, before another server starts the same.
    await tmux.killSession(session);
    groups.kill(groupName(principal));
    await killAll(paths, undefined, clock);
    for (const path of [paths.exitCode, paths.bwrapStatus]) rmSync(path, { force: true });
    return await tmux
      .ensureServer()
      .then(() => prepareGroups(host))
      .then(start)
      .catch((again: unknown) => {
        // The fault is the host's, not that of the program to start.
        throw new BureauError("unavailable", messageOf(again), { cause: again });
      });
  }
}

/** Opens the gate and waits until the program runs. */
async function runProgram(
  host: SandboxHost,
  principal: PrincipalName,
  shell: ProcessId,
): Promise<SandboxProcesses> {
  const paths = pathsOf(host, principal);
  openGate(startGate(paths));
  const processes = await untilProgramRuns(paths, shell, host.clock);
  if (processes === undefined) throw await notRun(host, principal);
  if (paths.serviceLink !== undefined && processes.init !== undefined) linkRoot(paths, processes.init);
  return processes;
}

/** bubblewrap has the pipe open for reading. When it has died, opening fails instead of waiting. */
function openGate(path: string): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    // One byte lets one bubblewrap through.
    writeSync(fd, "1");
  } finally {
    closeSync(fd);
  }
  rmSync(path);
}

async function notRun(host: SandboxHost, principal: PrincipalName): Promise<BureauError> {
  const screen = await finalScreen(host, principal);
  const said = exitOutputOf(screen ?? "").trim() || "no output";
  return new BureauError("failed", `bubblewrap did not run the program: ${said}`);
}
