/**
 * `bureau up` as a list of steps. Each step checks before it acts, so that running it again makes what is missing and
 * changes nothing else.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { repairMachineRooms } from "@bureau/control/machines/machine-room-repair";
import { provisionMachine } from "@bureau/control/machines/provision";
import { type Credentials, ensureAdministrator } from "@bureau/control/principals/administrator";
import { ensureFleet, ensureNamespace, type NamespaceRooms } from "@bureau/control/rooms/namespace-setup";
import { warnOf } from "@bureau/control/warn-of-ignored";
import { canonicalJson } from "@bureau/kit/canonical-json";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { isBureauError } from "@bureau/kit/errors";
import { describeLimits } from "@bureau/kit/limits-report";
import { runStep, type Steps } from "@bureau/kit/run-step";
import type { MatrixSession } from "@bureau/matrix/session";
import { callCbor } from "@bureau/os/cbor-client";
import { machineReport } from "@bureau/os/daemon-client";
import { readIfPresent, writeDurably } from "@bureau/os/durable-file";
import { egressFetch } from "@bureau/os/egress";
import {
  bootstrapFile,
  type InstanceLayout,
  launcherSocket,
  machineSessionFile,
  makePrivateDir,
} from "@bureau/os/layout";
import { readOperatorSession, writeOperatorSession } from "@bureau/os/session-file";
import { launcherResponses } from "@bureau/schema/launcher-ipc";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { InputError } from "@bureau/schema/parse";
import { bootstrapFileAt } from "./bootstrap-file.ts";
import { credentialFileAt, writeCredentials } from "./credential-file.ts";
import { ensureGreeter, waitForGreeting } from "./greeter.ts";
import { findInstance, type Instance, portOf } from "./instance.ts";
import { bwrapFault, checkSandbox, thisHost } from "./sandbox-preflight.ts";
import { programReport, revokedError, START_MS_MAX, startAndWatch } from "./start-and-watch.ts";
import { type NetworkChange, startHomeserver } from "./start-homeserver.ts";
import { takeTurn } from "./supervisor-lock.ts";
import { describeAgents, waitForAgents } from "./wait-for-agents.ts";

/** A launcher that runs answers in milliseconds. */
const LAUNCHER_MS_MAX = 5_000;

export type BringUp = {
  readonly layout: InstanceLayout;
  readonly steps: Steps;
  readonly network: NetworkChange;
  /** Returns once a supervisor answers on the instance's socket. */
  readonly ensureSupervisor: () => Promise<void>;
  readonly clock?: Clock;
};

export type UpResult = {
  readonly instance: Instance;
  readonly report: MachineReport;
  readonly lobby: string;
  /** The first line that the greeter said. Undefined: an operator destroyed the greeter, and it stays destroyed. */
  readonly greeting: string | undefined;
  readonly firstRun: boolean;
};

/** What the steps share. */
type Up = { readonly layout: InstanceLayout; readonly steps: Steps; readonly clock: Clock };
type Administrator = { readonly session: MatrixSession; readonly credentials: Credentials };

export async function bringUp(options: BringUp): Promise<UpResult> {
  const { layout, steps, clock = systemClock } = options;
  const up: Up = { layout, steps, clock };
  const firstRun = findInstance(layout) === undefined;
  await preflight(up);
  makeFolders(layout);
  // Two at a time would provision the machine twice; the first launcher's password would then be invalid.
  using _turn = await takeTurn(layout, steps, clock);
  await options.ensureSupervisor();
  const instance = await bringUpHomeserver(up, options.network);
  const administrator = await logInAdministrator(up, instance);
  const rooms = await makeRooms(up, instance, administrator);
  await joinMachine(up, instance, administrator);
  await startMachine(up, instance);
  const greeting = await meetGreeter(up, instance, administrator, rooms);
  const report = await meetAgents(up);
  return { instance, report, lobby: rooms.lobby, greeting, firstRun };
}

async function preflight({ steps }: Up): Promise<void> {
  const { bwrap } = await runStep(
    steps,
    "This machine can make sandboxes without root",
    async () => checkSandbox(thisHost),
    (found) => `This machine can make sandboxes without root (bubblewrap ${found.bwrap}, tmux ${found.tmux})`,
  );
  const weakness = bwrapFault(thisHost, bwrap);
  if (weakness !== undefined) steps.say(`  bubblewrap ${weakness.fault}\n  ${weakness.hint}`);
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

const bringUpHomeserver = ({ layout, steps, clock }: Up, network: NetworkChange): Promise<Instance> =>
  runStep(steps, "Homeserver", () => startHomeserver(layout, network, clock), describeHomeserver);

function describeHomeserver(instance: Instance): string {
  const { homeserverUrl, listen } = instance;
  if (portOf(instance) !== undefined)
    return `Homeserver, still at ${homeserverUrl}, as an earlier version started it: bureau down, then bureau up, moves it to a socket`;
  return listen === undefined ? "Homeserver" : `Homeserver, for other clients at http://${listen}`;
}

const logInAdministrator = ({ layout, steps }: Up, instance: Instance): Promise<Administrator> =>
  runStep(steps, "Administrator account", async () => {
    const administrator = await ensureAdministrator({
      fetch: egressFetch,
      homeserver: instance.homeserverUrl,
      registrationToken: (readIfPresent(layout.registrationTokenFile) ?? "").trim(),
      store: credentialFileAt(layout.credentialFile),
      onIgnored: warnOf(steps),
    });
    if (!holdsSession(layout.sessionFile))
      writeOperatorSession(layout.sessionFile, {
        homeserver: instance.homeserverUrl,
        userId: administrator.session.userId,
        token: administrator.credentials.adminToken,
      });
    return administrator;
  });

/** A missing or broken file is written again. */
function holdsSession(path: string): boolean {
  try {
    readOperatorSession(path);
    return true;
  } catch (error) {
    if (error instanceof InputError || (isBureauError(error) && error.code === "not-found")) return false;
    throw error;
  }
}

async function makeRooms(
  { layout, steps }: Up,
  { namespace, fleet }: Instance,
  { session, credentials }: Administrator,
): Promise<NamespaceRooms> {
  const rooms = await runStep(steps, `Rooms and templates of ${fleet}`, async ({ note }) => {
    const made = await ensureNamespace(session, namespace, [], note);
    await ensureFleet(session, fleet, [], note);
    return made.rooms;
  });
  recordRooms(layout.credentialFile, credentials, rooms);
  return rooms;
}

/** For other programs that read the credential file. */
function recordRooms(file: string, credentials: Credentials, { lobby: _, ...rooms }: NamespaceRooms): void {
  const wanted = { ...credentials, rooms };
  if (canonicalJson(wanted) !== canonicalJson(credentials)) writeCredentials(file, wanted);
}

const joinMachine = (
  { steps }: Up,
  instance: Instance,
  { session, credentials }: Administrator,
): Promise<void> =>
  runStep(steps, `Machine ${instance.machine}`, async ({ note }) => {
    const { layout, machine } = instance;
    if (hasJoined(layout)) return repairMachineRooms(session, machine, note);
    await provisionMachine({
      session,
      registrationToken: credentials.registrationToken,
      homeserver: instance.homeserverUrl,
      machine,
      store: bootstrapFileAt(bootstrapFile(layout), machine),
      launcherReadsStore: true,
    });
  });

/** Whether the machine has a session of its own. */
const hasJoined = (layout: InstanceLayout): boolean =>
  readIfPresent(machineSessionFile(layout)) !== undefined;

const startMachine = ({ steps, clock }: Up, instance: Instance): Promise<MachineReport> =>
  runStep(steps, "Launcher and daemon", async () => {
    if ((await programReport(instance, "daemon")).state === "revoked") throw revokedError(instance);
    // A launcher that answers has joined, or joined again: a daemon started earlier would use the old session.
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
  });

const launcherAnswers = (layout: InstanceLayout): Promise<true | undefined> =>
  callCbor(launcherSocket(layout), { action: "list-sandboxes" }, launcherResponses["list-sandboxes"], {
    peer: "launcher",
    timeoutMs: LAUNCHER_MS_MAX,
  }).then(
    () => true,
    () => undefined,
  );

/** What the greeter says; undefined when it was destroyed. */
async function meetGreeter(
  { steps, clock }: Up,
  instance: Instance,
  { session, credentials }: Administrator,
  rooms: NamespaceRooms,
): Promise<string | undefined> {
  const greeter = await runStep(
    steps,
    "First agent: greeter",
    () => ensureGreeter(session, credentials, instance, rooms),
    (user) => `First agent: ${user === undefined ? "destroyed, and stays so" : "greeter"}`,
  );
  if (greeter === undefined) return undefined;
  return runStep(
    steps,
    "Waiting for the greeter to speak",
    () => waitForGreeting(session, instance, rooms, greeter, clock),
    (text) => `The greeter says: ${text}`,
  );
}

async function meetAgents({ layout, steps, clock }: Up): Promise<MachineReport> {
  const report = await runStep(
    steps,
    "Agents",
    (shown) => waitForAgents(() => machineReport(layout), shown, { stallMs: START_MS_MAX, clock }),
    describeAgents,
  );
  const { limits } = report.machine;
  if (limits !== undefined && limits.level !== "enforced") steps.say(`! Agents: ${describeLimits(limits)}`);
  return report;
}
