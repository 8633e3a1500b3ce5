/**
 * `bureau up`, step by step: each is checked before it is done, so that running it again repairs what is missing and
 * touches nothing else.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { readIfPresent, writeDurably } from "@bureau/kit/durable-file";
import { isBureauError } from "@bureau/kit/errors";
import { type InstanceLayout, makePrivateDir } from "@bureau/kit/layout";
import { waitFor } from "@bureau/kit/wait-for";
import type { MatrixSession } from "@bureau/matrix/session";
import { writeOperatorSession } from "@bureau/matrix/session-file";
import type { MachineReport } from "@bureau/schema/observe-wire";
import type { Terminal } from "../command/terminal.ts";
import { type Credentials, ensureAdministrator } from "./administrator.ts";
import { machineReport } from "./daemon-client.ts";
import { ensureGreeter, waitForGreeting } from "./first-agent.ts";
import { startHomeserver } from "./homeserver-start.ts";
import { findInstance, type Instance } from "./instance.ts";
import {
  ensureFleet,
  ensureNamespace,
  type NamespaceRooms,
  publishBuiltinTemplates,
} from "./namespace-setup.ts";
import { probeSandbox, thisHost } from "./probe.ts";
import { programReport, revokedError, START_MS_MAX, startAndWatch } from "./program-start.ts";
import { provisionMachine } from "./provision.ts";
import { bootstrapFile, hasJoined } from "./supervisor.ts";

export type BringUp = {
  readonly layout: InstanceLayout;
  readonly terminal: Terminal;
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

/** Runs one step with its progress shown. */
async function step<T>(
  terminal: Terminal,
  text: string,
  act: () => Promise<T>,
  said?: (result: T) => string,
): Promise<T> {
  const shown = terminal.step(text);
  try {
    const result = await act();
    shown.done(said?.(result));
    return result;
  } catch (error) {
    shown.fail();
    throw error;
  }
}

export async function bringUp(options: BringUp): Promise<UpResult> {
  const { layout, terminal } = options;
  const clock = options.clock ?? systemClock;
  const firstRun = findInstance(layout) === undefined;
  await step(
    terminal,
    "This machine can make sandboxes without root",
    async () => probeSandbox(thisHost),
    (found) => `This machine can make sandboxes without root (bubblewrap ${found.bwrap}, tmux ${found.tmux})`,
  );
  makeFolders(layout);
  await options.ensureSupervisor();
  const instance = await step(
    terminal,
    "Homeserver",
    () => startHomeserver(layout, clock),
    ({ homeserverUrl }) => `Homeserver ${homeserverUrl}`,
  );
  const { session, credentials } = await step(terminal, "Administrator account", () =>
    administrator(instance),
  );
  const made = await step(terminal, `Rooms and templates of ${instance.fleet}`, () =>
    prepareFleet(session, instance),
  );
  await step(terminal, `Machine ${instance.machine}`, () => joinMachine(session, credentials, instance));
  await step(terminal, "Launcher and daemon", () => startMachine(instance, clock));
  const greeter = await step(
    terminal,
    "First agent: greeter",
    () => ensureGreeter(session, credentials, instance, made),
    (user) => `First agent: ${user === undefined ? "destroyed, and stays so" : "greeter"}`,
  );
  const greeting =
    greeter === undefined
      ? undefined
      : await step(
          terminal,
          "Waiting for the greeter to speak",
          () => waitForGreeting(session, instance, made, greeter, clock),
          (text) => `The greeter says: ${text}`,
        );
  const settled = await step(terminal, "Agents", () => settleAgents(layout, clock), describeAgents);
  return {
    instance,
    report: settled,
    lobby: made.lobby,
    greeting,
    firstRun,
  };
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
): Promise<{ session: MatrixSession; credentials: Credentials }> {
  const { layout } = instance;
  const admin = await ensureAdministrator({
    homeserver: instance.homeserverUrl,
    registrationToken: (readIfPresent(layout.registrationTokenFile) ?? "").trim(),
    credentialFile: layout.credentialFile,
  });
  if (readIfPresent(layout.sessionFile) === undefined)
    writeOperatorSession(layout.sessionFile, {
      homeserver: instance.homeserverUrl,
      userId: admin.session.userId,
      token: admin.credentials.adminToken,
    });
  return admin;
}

async function prepareFleet(session: MatrixSession, instance: Instance): Promise<NamespaceRooms> {
  const made = await ensureNamespace(session, instance.namespace);
  await publishBuiltinTemplates(session, instance.namespace, made.template);
  await ensureFleet(session, instance.fleet);
  return made;
}

async function joinMachine(
  session: MatrixSession,
  credentials: Credentials,
  instance: Instance,
): Promise<void> {
  if (hasJoined(instance.layout)) return;
  await provisionMachine({
    session,
    registrationToken: credentials.registrationToken,
    homeserver: instance.homeserverUrl,
    machine: instance.machine,
    bootstrapFile: bootstrapFile(instance.layout),
  });
}

async function startMachine(instance: Instance, clock: Clock): Promise<MachineReport> {
  if ((await programReport(instance, "daemon")).state === "revoked") throw revokedError(instance);
  await startAndWatch(instance, "launcher", clock, async () =>
    hasJoined(instance.layout) ? true : undefined,
  );
  return startAndWatch(instance, "daemon", clock, async () => {
    const report = await machineReport(instance.layout).catch((error: unknown) => {
      if (isBureauError(error) && error.code === "unavailable") return undefined;
      throw error;
    });
    return report?.machine.state === "online" ? report : undefined;
  });
}

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
