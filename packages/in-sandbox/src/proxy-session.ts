/**
 * The principal's own Matrix session, as a program in its sandbox has it: the proxy is its homeserver, and adds the token
 * that no sandbox holds. The homeserver's answers arrive unchanged; what the principal's grants do not allow is a 403.
 */
import { whoami } from "@bureau/matrix/auth";
import type { OnIgnored } from "@bureau/matrix/room-state";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { addressOfSocket } from "@bureau/schema/homeserver-address";
import { insidePaths } from "@bureau/schema/inside-paths";

export type ProxySessionOptions = {
  /** Default: where the sandbox has it. */
  readonly socket?: string;
  /** Ends every call of the session. */
  readonly signal: AbortSignal;
  readonly onIgnored?: OnIgnored;
};

/** Asks the homeserver whose session it is. @throws MatrixError */
export async function openProxySession(options: ProxySessionOptions): Promise<MatrixSession> {
  const { socket = process.env["BUREAU_PROXY_SOCKET"] || insidePaths.proxySocket, ...rest } = options;
  const server = { homeserver: addressOfSocket(socket), fetch: egressFetch, token: undefined };
  const { userId } = await whoami({ ...server, signal: options.signal });
  return new MatrixSession({ ...server, ...rest, userId });
}
