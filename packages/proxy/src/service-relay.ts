/**
 * Relays a service's socket on the host to the socket on which its program listens inside the sandbox.
 *
 * The program creates its socket in a tmpfs of the sandbox, so it can neither fill the host's file systems nor leave files
 * there. Clients connect to our socket, with the mode from the specification, independent of the program's own socket. We
 * open the program's socket beneath the sandbox's root without following links, so that a planted link has no effect.
 */
import { closeSync, fstatSync } from "node:fs";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { type Bridge, startBridge, type Target } from "@bureau/os/bridge";
import { openBeneath, openHandle } from "@bureau/os/open-beneath";
import { insidePaths } from "@bureau/schema/inside-paths";
import { inOwnFolder } from "./in-own-folder.ts";

/** For the group of the folder it lies in: the operators (specification, "Proxy Config Directories"). */
const SOCKET_MODE = 0o660;

export type ServiceRelayOptions = {
  /** The socket on the host. */
  readonly socket: string;
  /** A link to the sandbox's root, once its program runs. */
  readonly root: string;
  readonly log: Log;
};

/** Listens until disposed. @throws BureauError when it cannot */
export async function startServiceRelay({ socket, root, log }: ServiceRelayOptions): Promise<Bridge> {
  return await inOwnFolder(socket, (path) =>
    startBridge({
      listen: { kind: "unix", path },
      connect: () => socketInside(root),
      mode: SOCKET_MODE,
      onProblem: (problem) =>
        log.debug("relay.failed", "cannot relay a connection to the service", { error: problem }),
    }),
  );
}

/** @throws BureauError `unavailable` when the program listens on no socket */
function socketInside(root: string): Target {
  let rootHandle: number | undefined;
  let handle: number | undefined;
  try {
    rootHandle = openHandle(root);
    handle = openBeneath(rootHandle, insidePaths.serviceSocket.slice(1));
    if (!fstatSync(handle).isSocket())
      throw Object.assign(new Error("it is not a socket"), { code: "ENOTSOCK" });
    const opened = handle;
    return {
      kind: "unix",
      path: `/proc/self/fd/${opened}`,
      [Symbol.dispose]: () => closeSync(opened),
    };
  } catch (error) {
    if (handle !== undefined) closeSync(handle);
    throw new BureauError(
      "unavailable",
      `Nothing listens on "${insidePaths.serviceSocket}" in the sandbox: ${errnoOf(error) ?? "unknown"}`,
      { cause: error },
    );
  } finally {
    if (rootHandle !== undefined) closeSync(rootHandle);
  }
}
