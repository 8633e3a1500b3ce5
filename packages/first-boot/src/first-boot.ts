/**
 * How a machine joins: an age key, an account whose password only that key can derive, the key published in the
 * fleet's machine room, and session.json, written last. Cut off anywhere and run again, it goes on: the key is kept,
 * and an account whose password was already changed is entered with the derived one.
 *
 * Nothing is made before a source of credentials is there, so that starting too early leaves no trace.
 */
import { existsSync, rmSync } from "node:fs";
import { retry } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { writeDurably } from "@bureau/os/durable-file";
import { type Layout, machineSessionFile, makePrivateDir } from "@bureau/os/layout";
import { eventTypes, type MachineKey as PublishedKey } from "@bureau/schema/events";
import { aliasOf, rooms, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { loadOrMakeMachineKey, type MachineKey, sha256Hex } from "@bureau/launcher/keys";
import type { LauncherConfig } from "@bureau/launcher/launcher-config";
import { type BootstrapSource, readBootstrapSource } from "./bootstrap-source.ts";
import { HomeserverApi, HomeserverError, type LoginSession } from "./homeserver-api.ts";

/** Section 12.2. */
const FIRST_BOOT_MS_MAX = 120_000;

export type FirstBootDeps = { readonly clock: Clock; readonly log: Log; readonly signal: AbortSignal };

export const hasBooted = (layout: Layout): boolean => existsSync(machineSessionFile(layout));

/** Resolves when session.json is written. @throws BureauError; it may be run again then */
export async function firstBoot(config: LauncherConfig, deps: FirstBootDeps): Promise<void> {
  const source = readBootstrapSource(config, deps.clock);
  makePrivateDir(config.layout.stateDir);
  const key = await loadOrMakeMachineKey(config.layout);
  const signal = AbortSignal.any([deps.signal, AbortSignal.timeout(FIRST_BOOT_MS_MAX)]);
  const api = new HomeserverApi(source.homeserverUrl, signal);
  const patiently = <T>(act: () => Promise<T>): Promise<T> =>
    retry(act, {
      clock: deps.clock,
      signal,
      isTransient: (error) => isBureauError(error) && error.code === "unavailable",
      onRetry: (error, waitMs) =>
        deps.log.warn("first-boot.waiting", "first boot waits for the homeserver", { error, waitMs }),
    });
  const session = await patiently(() => enterAccount(api, config, source, key));
  const expected = userIdOf(config.machine, config.serverName);
  if (session.user_id !== expected)
    throw new BureauError(
      "conflict",
      `The homeserver calls this machine "${session.user_id}", not "${expected}"`,
      {
        hint: "check --server-name",
      },
    );
  await patiently(() => publishKey(api.as(session), config, key, deps.log));
  const content = {
    homeserver_url: source.homeserverUrl,
    user_id: session.user_id,
    access_token: session.access_token,
  };
  writeDurably(machineSessionFile(config.layout), JSON.stringify(content), 0o600);
  if (source.disposableFile !== undefined) removeBootstrapFile(source.disposableFile, deps.log);
  deps.log.info("first-boot.done", "first boot done", { user: session.user_id, publicKey: key.publicKey });
}

function enterAccount(
  api: HomeserverApi,
  config: LauncherConfig,
  source: BootstrapSource,
  key: MachineKey,
): Promise<LoginSession> {
  return source.kind === "bootstrap"
    ? enterWithBootstrap(api, config, source, key)
    : enterWithToken(api, config, source.secret.reveal());
}

async function enterWithBootstrap(
  api: HomeserverApi,
  config: LauncherConfig,
  source: BootstrapSource,
  key: MachineKey,
): Promise<LoginSession> {
  const permanent = key.permanentPassword(config.machine).reveal();
  const oneTime = source.secret.reveal();
  let session: LoginSession;
  try {
    session = await api.login(config.machine, oneTime);
  } catch (error) {
    if (!isWrongPassword(error)) throw error;
    // Either an earlier first boot of ours got past the change, or somebody else used the file.
    return await api.login(config.machine, permanent).catch((second: unknown) => {
      if (!isWrongPassword(second)) throw second;
      throw new BureauError("unauthorized", `The bootstrap file of "${config.machine}" was used already`, {
        hint: "if that was not you, revoke the machine; then provision it again: bureau machine provision",
        cause: error,
      });
    });
  }
  await api.as(session).changePassword(config.machine, oneTime, permanent);
  return session;
}

async function enterWithToken(
  api: HomeserverApi,
  config: LauncherConfig,
  token: string,
): Promise<LoginSession> {
  const password = sha256Hex(`bureau-machine-password:${config.machine}:${token}`);
  try {
    return await api.register(config.machine, password, token);
  } catch (error) {
    if (!(error instanceof HomeserverError && error.errcode === "M_USER_IN_USE")) throw error;
    return await api.login(config.machine, password);
  }
}

export const isWrongPassword = (error: unknown): boolean =>
  error instanceof HomeserverError && (error.status === 401 || error.status === 403);

async function publishKey(
  api: HomeserverApi,
  config: LauncherConfig,
  key: MachineKey,
  log: Log,
): Promise<void> {
  const machines = await api.join(aliasOf(rooms.fleetMachines(config.fleet), config.serverName));
  const content: PublishedKey = { algorithm: "age-x25519", public_key: key.publicKey };
  const stateKey = stateKeyOf(userIdOf(config.machine, config.serverName));
  await api.putState(machines, eventTypes.machineKey, stateKey, content);
  try {
    await api.join(aliasOf(rooms.fleetServices(config.fleet), config.serverName));
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
    log.warn(
      "first-boot.file-undeleted",
      "cannot delete the bootstrap file; its password is worth nothing any more",
      {
        path,
        error: messageOf(error),
      },
    );
  }
}
