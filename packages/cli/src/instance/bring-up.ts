/**
 * `bureau up`, step by step: each is checked before it is done, so that running it again repairs what is missing and
 * touches nothing else.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { readIfPresent, writeDurably } from "@bureau/kit/durable-file";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { waitForFileLock } from "@bureau/kit/file-lock";
import { type InstanceLayout, makePrivateDir } from "@bureau/kit/layout";
import { listensOnTcp } from "@bureau/kit/process-table";
import { serverVersions } from "@bureau/matrix/auth";
import type { MatrixSession } from "@bureau/matrix/session";
import { writeOperatorSession } from "@bureau/matrix/session-file";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { principalLocalpart, rooms, serverOf, type UserId, userIdOf } from "@bureau/schema/refs";
import type { Terminal } from "../command/terminal.ts";
import { type Credentials, ensureAdministrator } from "./administrator.ts";
import { machineReport } from "./daemon-client.ts";
import { createInstance, findInstance, type Instance, portOf } from "./instance.ts";
import { configPlace, readAssignments } from "./machine-config.ts";
import {
  ensureFleet,
  ensureNamespace,
  type NamespaceRooms,
  publishBuiltinTemplates,
  roomOf,
} from "./namespace-setup.ts";
import { createPrincipal } from "./principal.ts";
import { probeSandbox, thisHost } from "./probe.ts";
import { provisionMachine } from "./provision.ts";
import { bootstrapFile, hasJoined } from "./supervisor.ts";
import { type ProgramName, startProgram, supervisorStatus } from "./supervisor-wire.ts";
import { waitFor } from "./wait-for.ts";

/** The port the reference's homeserver has by default; any free one when it is taken. */
const PORT_PREFERRED = 6167;
/** A program on a slow machine starts in seconds; this is for one that never will. */
const START_MS_MAX = 60_000;

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
  readonly greeting: string;
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
  const report = await step(terminal, "Launcher and daemon", () => startMachine(instance, clock));
  const greeter = await step(terminal, "First agent: greeter", () =>
    ensureGreeter(session, credentials, instance, made),
  );
  const greeting = await step(
    terminal,
    "Waiting for the greeter to speak",
    () => waitForGreeting(session, instance, made, greeter, clock),
    (text) => `The greeter says: ${text}`,
  );
  return {
    instance,
    report: await machineReport(layout).catch(() => report),
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

/**
 * The instance, with a port that is free or its own homeserver's already. Until the machine has joined, the port may
 * still be chosen anew; afterwards it stands in sessions and credentials.
 */
async function chooseInstance(layout: InstanceLayout): Promise<Instance> {
  const known = findInstance(layout);
  if (known !== undefined && (hasJoined(layout) || (await isOurs(known)) || (await isFree(portOf(known)))))
    return known;
  return createInstance(layout, `http://127.0.0.1:${await freePort(PORT_PREFERRED)}`);
}

/** True when it is the instance's own homeserver that listens on its port: only then may it be told a secret. */
async function isOurs(instance: Instance): Promise<boolean> {
  const { programs } = await supervisorStatus(instance.layout);
  const pid = programs.find(({ name }) => name === "homeserver")?.pid;
  return pid !== undefined && listensOnTcp(pid, portOf(instance));
}

/** `wanted` when nobody listens there, else one the kernel picks. */
async function freePort(wanted: number): Promise<number> {
  const port = (await tryPort(wanted)) ?? (await tryPort(0));
  if (port === undefined) throw new BureauError("failed", "Cannot find a free TCP port on 127.0.0.1");
  return port;
}

const isFree = async (port: number): Promise<boolean> => (await tryPort(port)) !== undefined;

/** Listens for a moment; the port it got, or undefined. */
function tryPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ port, host: "127.0.0.1" }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : undefined));
    });
  });
}

/** From choosing a port to having it, one `bureau up` of a user at a time: two would choose the same. */
async function startHomeserver(layout: InstanceLayout, clock: Clock): Promise<Instance> {
  const turnFile = join(tmpdir(), `bureau-${process.getuid?.() ?? 0}-ports.lock`);
  using _turn = await waitForFileLock(turnFile, START_MS_MAX, clock);
  const instance = await chooseInstance(layout);
  await startAndWatch(instance, "homeserver", clock, async () => {
    if (!(await isOurs(instance))) return undefined;
    return serverVersions({ homeserver: instance.homeserverUrl, timeoutMs: 2_000 }).catch(() => undefined);
  });
  return instance;
}

/**
 * Starts a program and waits until `check` gives an answer. A program that keeps dying meanwhile ends the wait with
 * the last lines of its log.
 */
async function startAndWatch<T>(
  instance: Instance,
  program: ProgramName,
  clock: Clock,
  check: () => Promise<T | undefined>,
): Promise<T> {
  await startProgram(instance.layout, program);
  let died: string | undefined;
  const before = await programReport(instance, program);
  const answer = await waitFor(
    async () => {
      const { state, restarts } = await programReport(instance, program);
      if (state === "revoked" || restarts > before.restarts + 2) died = state;
      return died === undefined && state === "running" ? await check() : died;
    },
    { timeoutMs: START_MS_MAX, clock },
  );
  if (answer !== undefined && died === undefined) return answer as T;
  const log = join(instance.layout.logDir, `${program}.log`);
  if (died === "revoked") throw revokedError(instance);
  const why =
    died === undefined ? `it did not answer within ${START_MS_MAX / 1000} s` : `it keeps ending (${died})`;
  throw new BureauError(
    "failed",
    `Cannot start the ${program}: ${why}. Its last words:\n${lastLines(log, 5)}`,
    { hint: `read ${log}` },
  );
}

const revokedError = (instance: Instance): BureauError =>
  new BureauError("unauthorized", `The machine "${instance.machine}" was revoked: it runs nothing any more`, {
    hint: `to start over: bureau down, then remove "${instance.layout.home}"`,
  });

async function programReport(
  instance: Instance,
  program: ProgramName,
): Promise<{ state: string; restarts: number }> {
  const { programs } = await supervisorStatus(instance.layout);
  return programs.find(({ name }) => name === program) ?? { state: "starting", restarts: 0 };
}

const lastLines = (path: string, count: number): string =>
  existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n").slice(-count).join("\n") : "(no log)";

async function administrator(
  instance: Instance,
): Promise<{ session: MatrixSession; credentials: Credentials }> {
  const { layout } = instance;
  const admin = await ensureAdministrator({
    homeserver: instance.homeserverUrl,
    serverName: instance.serverName,
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

async function ensureGreeter(
  session: MatrixSession,
  credentials: Credentials,
  instance: Instance,
  made: NamespaceRooms,
): Promise<UserId | undefined> {
  const principal = principalLocalpart(instance.fleet, "agent/greeter");
  const user = userIdOf(principal, serverOf(session.userId));
  const place = await configPlace(session, instance.machine);
  const { assignments } = await readAssignments(session, place);
  if (assignments.some((assignment) => assignment.principal === user)) return user;
  // Somebody who destroyed the greeter does not want it back with every `bureau up`.
  const credentialsEvent = await session.getState(place.room, "m.bureau.credentials", user.slice(1));
  if (credentialsEvent !== undefined) return undefined;
  return createPrincipal({
    session,
    registrationToken: credentials.registrationToken,
    homeserver: instance.homeserverUrl,
    machine: instance.machine,
    principal,
    joins: [made.lobby],
    assignment: {
      template: `${rooms.template(instance.namespace)}:greeter`,
      auto_start: true,
      payload: { room: made.lobby },
    },
  });
}

/** The greeter's last message in the lobby, which only it can have written, through its own proxy. */
async function waitForGreeting(
  session: MatrixSession,
  instance: Instance,
  made: NamespaceRooms,
  greeter: UserId | undefined,
  clock: Clock,
): Promise<string> {
  if (greeter === undefined) return "(it was destroyed, and stays so)";
  const lobby = made.lobby ?? (await roomOf(session, rooms.lobby(instance.namespace)));
  const spoken = await waitFor(
    async () => {
      const { chunk } = await session.messages(lobby, { dir: "b", limit: 50 });
      const said = chunk.find((event) => event["sender"] === greeter && event["type"] === "m.room.message");
      const content = said?.["content"] as { body?: unknown } | undefined;
      const running = (await machineReport(instance.layout)).principals.some(
        ({ user_id, state }) => user_id === greeter && state === "running",
      );
      return running && typeof content?.body === "string" ? content.body : undefined;
    },
    { timeoutMs: START_MS_MAX, clock },
  );
  if (spoken !== undefined) return spoken.split("\n")[0] ?? "";
  const report = await machineReport(instance.layout).catch((error: unknown) => messageOf(error));
  const state =
    typeof report === "string"
      ? report
      : JSON.stringify(report.principals.find(({ user_id }) => user_id === greeter));
  throw new BureauError("timeout", `The greeter did not speak within ${START_MS_MAX / 1000} s: ${state}`, {
    hint: "bureau agent logs greeter",
  });
}
