/**
 * How a machine joins: an age key, an account whose password only that key can derive, the key published in the
 * fleet's machine room, and session.json, written last. Each step can be repeated after an interruption: the key is kept,
 * and an account whose password was already changed is entered with the derived one.
 *
 * Nothing is written before a source of credentials is there, so that a start without one leaves no trace.
 */
import { rmSync } from "node:fs";
import { retry } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { loadOrMakeMachineKey, type MachineKey } from "@bureau/launcher/keys";
import { type Granted, login, registerWithToken } from "@bureau/matrix/auth";
import { isTransient, MatrixError } from "@bureau/matrix/matrix-error";
import type { Server } from "@bureau/matrix/request";
import { MatrixSession } from "@bureau/matrix/session";
import { sha256Hex } from "@bureau/os/digest";
import { egressFetch } from "@bureau/os/egress";
import { machineSessionFile, makePrivateDir } from "@bureau/os/layout";
import { writeMachineSession } from "@bureau/os/session-file";
import { machinePasswordText } from "@bureau/schema/derived-passwords";
import { eventTypes, type MachineKey as PublishedKey } from "@bureau/schema/events";
import { aliasOf, rooms, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { type BootstrapSource, readBootstrapSource } from "./bootstrap-source.ts";
import type { FirstBootConfig } from "./first-boot-config.ts";

/** Section 12.2. */
const FIRST_BOOT_MS_MAX = 120_000;

/** The same device each time: a repeated first boot leaves no second session behind. */
const DEVICE = { deviceId: "BUREAU_MACHINE", deviceName: "Bureau machine" };

export type FirstBootDeps = { readonly clock: Clock; readonly log: Log; readonly signal: AbortSignal };

/** The homeserver, and what ends every request to it. */
export type Connection = Server & { readonly signal: AbortSignal };

export const connectionTo = (homeserver: string, signal: AbortSignal): Connection => ({
  homeserver,
  fetch: egressFetch,
  signal,
});

/** Resolves when session.json is written. @throws BureauError; then it may be run again */
export async function firstBoot(config: FirstBootConfig, deps: FirstBootDeps): Promise<void> {
  const source = readBootstrapSource(config, deps.clock);
  makePrivateDir(config.layout.stateDir);
  const key = await loadOrMakeMachineKey(config.layout);
  const signal = AbortSignal.any([deps.signal, AbortSignal.timeout(FIRST_BOOT_MS_MAX)]);
  const connection = connectionTo(source.homeserverUrl, signal);
  const patiently = <T>(act: () => Promise<T>): Promise<T> =>
    retry(act, {
      clock: deps.clock,
      signal,
      isTransient,
      onRetry: (error, waitMs) =>
        deps.log.warn("first-boot.waiting", "first boot waits for the homeserver", { error, waitMs }),
    });
  const { userId, token } = await patiently(() => enterAccount(connection, config, source, key));
  const expected = userIdOf(config.machine, config.serverName);
  if (userId !== expected)
    throw new BureauError("conflict", `The homeserver calls this machine "${userId}", not "${expected}"`, {
      hint: "check --server-name",
    });
  const session = new MatrixSession({ ...connection, userId, token });
  await patiently(() => publishKey(session, config, key, deps.log));
  writeMachineSession(machineSessionFile(config.layout), {
    homeserver: source.homeserverUrl,
    userId,
    token,
  });
  if (source.disposableFile !== undefined) removeBootstrapFile(source.disposableFile, deps.log);
  deps.log.info("first-boot.done", "first boot done", { user: userId, publicKey: key.publicKey });
}

function enterAccount(
  connection: Connection,
  config: FirstBootConfig,
  source: BootstrapSource,
  key: MachineKey,
): Promise<Granted> {
  return source.kind === "bootstrap"
    ? enterWithBootstrap(connection, config, source, key)
    : enterWithToken(connection, config, source.secret.reveal());
}

async function enterWithBootstrap(
  connection: Connection,
  config: FirstBootConfig,
  source: BootstrapSource,
  key: MachineKey,
): Promise<Granted> {
  const permanent = key.permanentPassword(config.machine).reveal();
  const oneTime = source.secret.reveal();
  let granted: Granted;
  try {
    granted = await enter(connection, config, oneTime);
  } catch (error) {
    if (!isWrongPassword(error)) throw error;
    // Either an earlier first boot of this machine changed it, or another machine used the file.
    return await enter(connection, config, permanent).catch((second: unknown) => {
      if (!isWrongPassword(second)) throw second;
      throw new BureauError("unauthorized", `The bootstrap file of "${config.machine}" was used already`, {
        hint: "if that was not you, revoke the machine; then provision it again: bureau machine provision",
        cause: error,
      });
    });
  }
  await new MatrixSession({ ...connection, ...granted }).changePassword(oneTime, permanent);
  return granted;
}

/** @throws MatrixError for which {@link isWrongPassword} holds */
export const enter = (
  connection: Connection,
  { machine }: Pick<FirstBootConfig, "machine">,
  password: string,
): Promise<Granted> => login({ ...connection, ...DEVICE, user: machine, password });

async function enterWithToken(
  connection: Connection,
  config: FirstBootConfig,
  registrationToken: string,
): Promise<Granted> {
  const password = sha256Hex(machinePasswordText(config.machine, registrationToken));
  const registered = await registerWithToken({
    ...connection,
    ...DEVICE,
    username: config.machine,
    password,
    registrationToken,
  });
  return registered.inUse ? await enter(connection, config, password) : registered;
}

export const isWrongPassword = (error: unknown): boolean =>
  error instanceof MatrixError && (error.status === 401 || error.status === 403);

async function publishKey(
  session: MatrixSession,
  config: FirstBootConfig,
  key: MachineKey,
  log: Log,
): Promise<void> {
  const content: PublishedKey = { algorithm: "age-x25519", public_key: key.publicKey };
  try {
    const machines = await session.joinRoom(aliasOf(rooms.fleetMachines(config.fleet), config.serverName));
    await session.putState(machines, eventTypes.machineKey, stateKeyOf(session.userId), content);
  } catch (error) {
    if (!(error instanceof MatrixError && error.code === "forbidden")) throw error;
    throw new BureauError("forbidden", error.message, {
      hint: `an administrator provisions the machine: bureau machine provision ${config.machine}`,
    });
  }
  try {
    await session.joinRoom(aliasOf(rooms.fleetServices(config.fleet), config.serverName));
  } catch (error) {
    log.warn("first-boot.room-failed", "cannot join the fleet's service room yet; the daemon will", {
      error,
    });
  }
}

export function removeBootstrapFile(path: string, log: Log): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    log.warn("first-boot.file-undeleted", "cannot delete the bootstrap file; its password no longer works", {
      path,
      error: messageOf(error),
    });
  }
}
