/**
 * How a request leaves the process for a homeserver or another upstream: over TCP, or over a socket of this host.
 *
 * The runtime keeps connections to a socket by its path, so that a later request reaches the process that has removed
 * it: each request to a socket has a connection of its own. A socket is trusted by its folder: only we, or root, may
 * have put it there.
 */
import { lstatSync } from "node:fs";
import { dirname } from "node:path";
import { socketOf } from "@bureau/schema/homeserver-address";
import { BureauError } from "./errors.ts";

export type Egress = {
  /** What paths are appended to. */
  readonly base: string;
  /** What `fetch` needs besides. */
  readonly options: EgressOptions;
};
export type EgressOptions = { readonly unix?: string; readonly keepalive?: boolean };

/**
 * The way to a homeserver's address. @throws BureauError `forbidden` when another user may have put its socket there
 */
export function egressTo(address: string): Egress {
  const socket = socketOf(address);
  if (socket === undefined) return { base: address.replace(/\/+$/u, ""), options: {} };
  requirePrivateFolder(socket);
  return { base: "http://localhost", options: viaSocket(socket) };
}

/** `fetch` options for a socket. */
export const viaSocket = (unix: string): EgressOptions => ({ unix, keepalive: false });

function requirePrivateFolder(socket: string): void {
  const folder = dirname(socket);
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  if (stat === undefined)
    throw new BureauError("unavailable", `There is no socket "${socket}"`, { hint: "bureau up" });
  const isTrusted = stat.uid === process.getuid?.() || stat.uid === 0;
  if (!stat.isDirectory() || !isTrusted || (stat.mode & 0o022) !== 0)
    throw new BureauError(
      "forbidden",
      `Cannot trust the socket "${socket}": others may write to its folder, or own it`,
      { hint: `its folder must be yours or root's, and writable by its owner alone: chmod go-w "${folder}"` },
    );
}
