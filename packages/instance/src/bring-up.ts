/**
 * `bureau up`, step by step: each is checked before it is done, so that running it again repairs what is missing and
 * touches nothing else.
 */

import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { repairMachineRooms } from "@bureau/control/machines/machine-room-repair";
import { provisionMachine } from "@bureau/control/machines/provision";
import { type Credentials, ensureAdministrator } from "@bureau/control/principals/administrator";
import type { Note } from "@bureau/control/rooms/found-room";
import { ensureFleet, ensureNamespace, type NamespaceRooms } from "@bureau/control/rooms/namespace-setup";
import { warnOf } from "@bureau/control/warn-of-ignored";
import { canonicalJson } from "@bureau/kit/canonical-json";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { isBureauError } from "@bureau/kit/errors";
import { describeLimits } from "@bureau/kit/limits-report";
import { runStep, type Steps } from "@bureau/kit/run-step";
import { waitFor } from "@bureau/kit/wait-for";
import type { MatrixSession } from "@bureau/matrix/session";
import { callCbor } from "@bureau/os/cbor-socket";
import { machineReport } from "@bureau/os/daemon-client";
import { readIfPresent, writeDurably } from "@bureau/os/durable-file";
import { egressFetch } from "@bureau/os/egress";
import { type InstanceLayout, launcherSocket, makePrivateDir } from "@bureau/os/layout";
import { readOperatorSession, writeOperatorSession } from "@bureau/os/session-file";
import { launcherResponses } from "@bureau/schema/launcher-ipc";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { InputError } from "@bureau/schema/parse";
import { bootstrapFileAt } from "./bootstrap-file.ts";
import { credentialFileAt, writeCredentials } from "./credential-file.ts";
import { ensureGreeter, waitForGreeting } from "./greeter.ts";
import { findInstance, type Instance, portOf } from "./instance.ts";
import { bwrapFault, probeSandbox, thisHost } from "./sandbox-preflight.ts";
import { programReport, revokedError, START_MS_MAX, startAndWatch } from "./start-and-watch.ts";
import { type NetworkChange, startHomeserver } from "./start-homeserver.ts";
import { bootstrapFile, hasJoined } from "./supervisor.ts";
import { takeTurn } from "./supervisor-lock.ts";

/** A launcher that is there answers in milliseconds. */
const LAUNCHER_MS_MAX = 5_000;

export type BringUp = {
  readonly layout: InstanceLayout;
  readonly steps: Steps;
  readonly network: NetworkChange;
  /** Makes sure a supervisor answers on the instance's socket. */
  readonly ensureSupervisor: () => Promise<void>;
  readonly clock?: Clock;
};

export type UpResult = {
  readonly instance: Instance;
  readonly report: MachineReport;
  readonly lobby: string;
  /** Undefined: somebody destroyed the greeter, and it stays so. */
  readonly greeting: string | undefined;
  readonly firstRun: boolean;
};

export async function bringUp(options: BringUp): Promise<UpResult> {
  const { layout, steps } = options;
  const clock = options.clock ?? systemClock;
  const firstRun = findInstance(layout) === undefined;
  const { bwrap } = await runStep(
    steps,
    "This machine can make sandboxes without root",
    async () => probeSandbox(thisHost),
    (found) => `This machine can make sandboxes without root (bubblewrap ${found.bwrap}, tmux ${found.tmux})`,
  );
  const weakness = bwrapFault(thisHost, bwrap);
  if (weakness !== undefined) steps.say(`  bubblewrap ${weakness.fault}\n  ${weakness.hint}`);
  makeFolders(layout);
  // A second one would provision again what the first has, whose launcher then finds nothing to join with.
  using _turn = await takeTurn(layout, steps, clock);
  await options.ensureSupervisor();
  const instance = await runStep(
    steps,
    "Homeserver",
    () => startHomeserver(layout, options.network, clock),
    describeHomeserver,
  );
  const { session, credentials } = await runStep(steps, "Administrator account", () =>
    administrator(instance, steps),
  );
  const made = await runStep(steps, `Rooms and templates of ${instance.fleet}`, (shown) =>
    prepareFleet(session, instance, shown.note),
  );
  recordRooms(layout.credentialFile, credentials, made);
  await runStep(steps, `Machine ${instance.machine}`, (shown) =>
    joinMachine(session, credentials, instance, shown.note),
  );
  await runStep(steps, "Launcher and daemon", () => startMachine(instance, clock));
  const greeter = await runStep(
    steps,
    "First agent: greeter",
    () => ensureGreeter(session, credentials, instance, made),
    (user) => `First agent: ${user === undefined ? "destroyed, and stays so" : "greeter"}`,
  );
  const greeting =
    greeter === undefined
      ? undefined
      : await runStep(
          steps,
          "Waiting for the greeter to speak",
          () => waitForGreeting(session, instance, made, greeter, clock),
          (text) => `The greeter says: ${text}`,
        );
  const settled = await runStep(steps, "Agents", () => settleAgents(layout, clock), describeAgents);
  const { limits } = settled.machine;
  if (limits !== undefined && limits.level !== "enforced") steps.say(`! Agents: ${describeLimits(limits)}`);
  return {
    instance,
    report: settled,
    lobby: made.lobby,
    greeting,
    firstRun,
  };
}

function describeHomeserver(instance: Instance): string {
  const { homeserverUrl, listen } = instance;
  if (portOf(instance) !== undefined)
    return `Homeserver, still at ${homeserverUrl}, as an earlier version started it: bureau down, then bureau up, moves it to a socket`;
  return listen === undefined ? "Homeserver" : `Homeserver, for other clients at http://${listen}`;
}

function makeFolders(layout: InstanceLayout): void {
  for (const dir of [layout.home, layout.runDir]) makePrivateDir(dir);
  for (const dir of [
    layout.stateDir,
    layout.homeserverDir,
    layout.logDir,
    layout.workspaceRoot,
    layout.cacheRoot,
  ])
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  if (readIfPresent(layout.registrationTokenFile) === undefined)
    writeDurably(layout.registrationTokenFile, `${randomBytes(32).toString("hex")}\n`, 0o600);
}

async function administrator(
  instance: Instance,
  steps: Steps,
): Promise<{ session: MatrixSession; credentials: Credentials }> {
  const { layout } = instance;
  const admin = await ensureAdministrator({
    fetch: egressFetch,
    homeserver: instance.homeserverUrl,
    registrationToken: (readIfPresent(layout.registrationTokenFile) ?? "").trim(),
    store: credentialFileAt(layout.credentialFile),
    onIgnored: warnOf(steps),
  });
  if (!holdsSession(layout.sessionFile))
    writeOperatorSession(layout.sessionFile, {
      homeserver: instance.homeserverUrl,
      userId: admin.session.userId,
      token: admin.credentials.adminToken,
    });
  return admin;
}

/** A file that is missing or broken is written again. */
function holdsSession(path: string): boolean {
  try {
    readOperatorSession(path);
    return true;
  } catch (error) {
    if (error instanceof InputError || (isBureauError(error) && error.code === "not-found")) return false;
    throw error;
  }
}

async function prepareFleet(session: MatrixSession, instance: Instance, note: Note): Promise<NamespaceRooms> {
  const made = await ensureNamespace(session, instance.namespace, [], note);
  await ensureFleet(session, instance.fleet, [], note);
  return made.rooms;
}

/** For others who read the file. */
function recordRooms(file: string, credentials: Credentials, { lobby: _, ...rooms }: NamespaceRooms): void {
  const wanted = { ...credentials, rooms };
  if (canonicalJson(wanted) !== canonicalJson(credentials)) writeCredentials(file, wanted);
}

async function joinMachine(
  session: MatrixSession,
  credentials: Credentials,
  instance: Instance,
  note: Note,
): Promise<void> {
  if (hasJoined(instance.layout)) return repairMachineRooms(session, instance.machine, note);
  await provisionMachine({
    session,
    registrationToken: credentials.registrationToken,
    homeserver: instance.homeserverUrl,
    machine: instance.machine,
    store: bootstrapFileAt(bootstrapFile(instance.layout), instance.machine),
    launcherReadsStore: true,
  });
}

async function startMachine(instance: Instance, clock: Clock): Promise<MachineReport> {
  if ((await programReport(instance, "daemon")).state === "revoked") throw revokedError(instance);
  // Answering it has joined, also anew: a daemon before that would take the old session for its own.
  await startAndWatch(instance, "launcher", clock, async () =>
    hasJoined(instance.layout) ? launcherAnswers(instance.layout) : undefined,
  );
  return startAndWatch(instance, "daemon", clock, async () => {
    const report = await machineReport(instance.layout).catch((error: unknown) => {
      if (isBureauError(error) && error.code === "unavailable") return undefined;
      throw error;
    });
    return report?.machine.state === "online" ? report : undefined;
  });
}

const launcherAnswers = (layout: InstanceLayout): Promise<true | undefined> =>
  callCbor(launcherSocket(layout), { action: "list-sandboxes" }, launcherResponses["list-sandboxes"], {
    peer: "launcher",
    timeoutMs: LAUNCHER_MS_MAX,
  }).then(
    () => true,
    () => undefined,
  );

/** Every assigned agent starts by itself; this waits until none is at it any more. */
async function settleAgents(layout: InstanceLayout, clock: Clock): Promise<MachineReport> {
  const settled = await waitFor(
    async () => {
      const report = await machineReport(layout);
      return report.principals.some(({ state }) => state === "starting" || state === "stopping")
        ? undefined
        : report;
    },
    { timeoutMs: START_MS_MAX, clock },
  );
  return settled ?? machineReport(layout);
}

/** `Agents: 3 running, 1 completed`. */
function describeAgents(report: MachineReport): string {
  const counts = new Map<string, number>();
  for (const { state } of report.principals) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].map(([state, count]) => `${count} ${state}`);
  return `Agents: ${parts.length === 0 ? "none" : parts.join(", ")}`;
}
