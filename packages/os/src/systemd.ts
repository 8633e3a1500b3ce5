/**
 * A program's side of systemd's contract (sd_listen_fds(3), sd_notify(3), systemd.exec(5) "Credentials"): the sockets
 * it inherits, the states it reports, the secrets it is given. Without systemd every function returns that there is
 * none, so a rootless program runs the same code.
 */
import { closeSync } from "node:fs";
import { join } from "node:path";
import { sendDatagram, setCloseOnExec } from "./posix.ts";

type Env = Record<string, string | undefined>;

/** The first descriptor that is passed (SD_LISTEN_FDS_START). */
export const FIRST_FD = 3;
/**
 * LISTEN_FDNAMES of a socket whose file an earlier program in this process created. The first socket has exactly this
 * name, which older builds know; further sockets add their own name after a slash.
 */
const OWN_SOCKET = "bureau-own";

export type NamedSocket = {
  /** A listening socket. */
  readonly fd: number;
  /** The name of its file: `observe.sock`. */
  readonly name: string;
  /** This process removes its file; the service manager does not. */
  readonly isOurs: boolean;
};

/**
 * The listening sockets this process was started with, by name. `names` are those this program serves. A socket without
 * a name gets the first: older builds, and units without FileDescriptorName=, pass just one.
 * Sockets with other names are closed. Programs that this one starts do not inherit any.
 */
export function inheritedSockets(
  names: readonly [string, ...string[]],
  env: Env = process.env,
): ReadonlyMap<string, NamedSocket> {
  const found = new Map<string, NamedSocket>();
  const count = Number(env["LISTEN_FDS"] ?? 0);
  if (env["LISTEN_PID"] !== String(process.pid) || !(count > 0)) return found;
  const given = (env["LISTEN_FDNAMES"] ?? "").split(":");
  for (const variable of ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]) delete env[variable];
  const passed = Array.from({ length: count }, (_, index) => socketAt(FIRST_FD + index, given[index] ?? ""));
  const hasFirst = passed.some(({ name }) => name === names[0]);
  for (const [index, socket] of passed.entries()) {
    const name = index === 0 && !hasFirst ? names[0] : socket.name;
    if (!names.includes(name) || found.has(name)) {
      closeSync(socket.fd);
      continue;
    }
    setCloseOnExec(socket.fd, true);
    found.set(name, { ...socket, name });
  }
  return found;
}

function socketAt(fd: number, given: string): NamedSocket {
  const [owner, name = ""] = given.split("/", 2);
  return owner === OWN_SOCKET ? { fd, name, isOurs: true } : { fd, name: given, isOurs: false };
}

/**
 * The variables from which {@link inheritedSockets} of the next program finds `sockets`, at {@link FIRST_FD} and after
 * it.
 */
export function socketVariables(sockets: readonly NamedSocket[]): Readonly<Record<string, string>> {
  const names = sockets.map(({ name, isOurs }, index) => {
    if (!isOurs) return name;
    return index === 0 ? OWN_SOCKET : `${OWN_SOCKET}/${name}`;
  });
  return {
    LISTEN_FDS: String(sockets.length),
    LISTEN_PID: String(process.pid),
    LISTEN_FDNAMES: names.join(":"),
  };
}

export type ServiceState = {
  /** The program is ready. Sent once. */
  readonly ready?: true;
  readonly stopping?: true;
  /** A line for `systemctl status`. */
  readonly status?: string;
};

/** Reports the state to the service manager; false when there is none. */
export function notifyServiceManager(state: ServiceState, env: Env = process.env): boolean {
  return send(
    [
      ...(state.ready === true ? ["READY=1"] : []),
      ...(state.stopping === true ? ["STOPPING=1"] : []),
      ...(state.status === undefined ? [] : [`STATUS=${state.status.replaceAll("\n", " ")}`]),
    ],
    env,
  );
}

/**
 * Pings the service manager's watchdog for as long as the event loop turns, at a third of the interval it asks for. The
 * first ping is immediate, because the last one of the replaced program may be that long ago.
 */
export function feedWatchdog(env: Env = process.env): Disposable {
  const interval = Number(env["WATCHDOG_USEC"] ?? 0) / 1_000;
  const ours = env["WATCHDOG_PID"] === undefined || env["WATCHDOG_PID"] === String(process.pid);
  if (!(interval > 0) || !ours) return { [Symbol.dispose]: () => {} };
  const ping = (): boolean => send(["WATCHDOG=1"], env);
  ping();
  const timer = setInterval(ping, interval / 3);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** One more ping, from a program that is being replaced: the next program then has the whole interval to start. */
export function pingWatchdog(env: Env = process.env): void {
  if (env["WATCHDOG_USEC"] !== undefined) send(["WATCHDOG=1"], env);
}

/** The path of a credential from the service manager; undefined when it passes none at all. */
export function credentialFile(name: string, env: Env = process.env): string | undefined {
  const folder = env["CREDENTIALS_DIRECTORY"];
  return folder === undefined || folder === "" ? undefined : join(folder, name);
}

function send(lines: readonly string[], env: Env): boolean {
  const socket = env["NOTIFY_SOCKET"];
  return socket !== undefined && socket !== "" && lines.length > 0 && sendDatagram(socket, lines.join("\n"));
}
