/**
 * A program's side of systemd's contract (sd_listen_fds(3), sd_notify(3), systemd.exec(5) "Credentials"): the socket it
 * is handed, what it says of itself, the secrets it is given. Without systemd every function says so and does nothing
 * else, so a rootless program runs the same code.
 */
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { sendDatagram, setCloseOnExec } from "./posix.ts";

type Env = Record<string, string | undefined>;

/** The first descriptor that is passed (SD_LISTEN_FDS_START). */
const FIRST_FD = 3;
/** LISTEN_FDNAMES of a socket that no service manager keeps: an earlier version of this very process made it. */
const OWN_SOCKET = "bureau-own";

export type InheritedSocket = {
  readonly fd: number;
  /** Its file is this process's to remove. */
  readonly isOurs: boolean;
};

/**
 * The listening socket this process was started with; undefined when there is none. Programs that this one starts do
 * not inherit it. @throws BureauError when there are several: no unit of ours passes more than one
 */
export function inheritedSocket(env: Env = process.env): InheritedSocket | undefined {
  const count = Number(env["LISTEN_FDS"] ?? 0);
  if (env["LISTEN_PID"] !== String(process.pid) || !(count > 0)) return undefined;
  const isOurs = env["LISTEN_FDNAMES"] === OWN_SOCKET;
  for (const name of ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]) delete env[name];
  if (count > 1) throw new BureauError("unsupported", `Cannot start: ${count} sockets were passed, not one`);
  setCloseOnExec(FIRST_FD, true);
  return { fd: FIRST_FD, isOurs };
}

/** What {@link inheritedSocket} of the program that replaces this one needs: the environment, and where the socket lies. */
export const handOn = (
  isOurs: boolean,
): { readonly at: number; readonly env: Readonly<Record<string, string>> } => ({
  at: FIRST_FD,
  env: {
    LISTEN_FDS: "1",
    LISTEN_PID: String(process.pid),
    ...(isOurs ? { LISTEN_FDNAMES: OWN_SOCKET } : {}),
  },
});

export type ServiceState = {
  /** It does what it is for. Sent once. */
  readonly ready?: true;
  readonly stopping?: true;
  /** A line for `systemctl status`. */
  readonly status?: string;
};

/** Tells the service manager; false when there is none. */
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
 * Pings the service manager's watchdog for as long as the event loop turns, at a third of the interval it asks for; at
 * once too, because the program that this one has replaced in its process may have pinged that long ago.
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

/** One ping more, from a program that is replaced: the next one has the whole interval until its first. */
export function pingWatchdog(env: Env = process.env): void {
  if (env["WATCHDOG_USEC"] !== undefined) send(["WATCHDOG=1"], env);
}

/** Where the service manager put a credential of this name; undefined when it passes none at all. */
export function credentialFile(name: string, env: Env = process.env): string | undefined {
  const folder = env["CREDENTIALS_DIRECTORY"];
  return folder === undefined || folder === "" ? undefined : join(folder, name);
}

function send(lines: readonly string[], env: Env): boolean {
  const socket = env["NOTIFY_SOCKET"];
  return socket !== undefined && socket !== "" && lines.length > 0 && sendDatagram(socket, lines.join("\n"));
}
