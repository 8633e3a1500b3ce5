/**
 * The services that a sandbox requires, as files in `/run/bureau/service`: a socket for each, and a token.
 *
 * The socket is a hard link to the one at which the service's proxy listens. So a call passes through no further program,
 * and the folder, not the socket, is mounted: after a restart of the service the daemon has the link replaced, and the
 * running sandbox sees the new one. Everything is replaced by rename; a program never reads half a token.
 */
import { linkSync, lstatSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { replaceWith, writeAtomically } from "@bureau/os/durable-file";
import type { SandboxServices } from "@bureau/schema/launcher-ipc";
import { type PrincipalName, principalType } from "@bureau/schema/refs";
import { parseServiceRole } from "@bureau/schema/service-requirement";
import { pathsOf, type SandboxHost } from "./sandbox-host.ts";

/**
 * Makes sockets and tokens exactly these. Tokens come first: who finds the socket finds its token.
 * @throws BureauError `unavailable` when a service does not listen, `invalid-input` for a principal that is no service
 */
export function placeServices(
  host: Pick<SandboxHost, "config">,
  principal: PrincipalName,
  { sockets, tokens }: SandboxServices,
): void {
  const paths = pathsOf(host, principal);
  mkdirSync(paths.serviceTokens, { recursive: true, mode: 0o700 });
  const tokenFiles = Object.entries(tokens).map(([role, token]) => {
    const file = `${parseServiceRole(role)}.token`;
    writeAtomically(join(paths.serviceTokens, file), token, 0o600);
    return file;
  });
  const socketFiles = Object.entries(sockets).map(([name, provider]) => {
    const file = `${parseServiceRole(name)}.sock`;
    linkSocket(socketOf(host, provider), join(paths.services, file), provider);
    return file;
  });
  removeOthers(paths.serviceTokens, tokenFiles);
  removeOthers(paths.services, [...socketFiles, "token"]);
}

function socketOf(host: Pick<SandboxHost, "config">, provider: PrincipalName): string {
  const { serviceLink, serviceSocket } = pathsOf(host, provider);
  if (serviceLink !== undefined) return serviceSocket;
  throw new BureauError(
    "invalid-input",
    `"${provider}" is no service: its type is ${principalType(provider)}`,
  );
}

function linkSocket(socket: string, path: string, provider: PrincipalName): void {
  const found = lstatSync(socket, { throwIfNoEntry: false });
  if (found?.isSocket() !== true)
    throw new BureauError("unavailable", `The service "${provider}" does not listen on this machine`, {
      hint: `bureau agent show ${provider}`,
    });
  const placed = lstatSync(path, { throwIfNoEntry: false });
  // The number of a removed file may be given to its successor, but the link keeps ours from being removed.
  if (placed?.ino === found.ino && placed.dev === found.dev) return;
  try {
    replaceWith(path, (temporary) => linkSync(socket, temporary));
  } catch (error) {
    throw new BureauError("failed", `Cannot link the socket of "${provider}"`, { cause: messageOf(error) });
  }
}

function removeOthers(folder: string, wanted: readonly string[]): void {
  for (const name of readdirSync(folder)) if (!wanted.includes(name)) rmSync(join(folder, name));
}
