/** Connects to a unix socket of this host, or throws the reason at once. */
import { connect, type Socket } from "node:net";
import { BureauError, errnoOf, messageOf } from "@bureau/kit/errors";

/** A local connection succeeds or fails at once (section 6.1). */
const DIAL_MS_MAX = 5_000;

export type Peer = {
  /** Name of the other side in errors: `launcher`. */
  readonly peer: string;
  /** The next command when no program answers. */
  readonly hint?: string;
};

/**
 * Later failures emit no event of their own; they end the connection.
 * @throws BureauError `unavailable` when no program answers
 */
export function dial(
  path: string,
  { peer, hint }: Peer,
  { allowHalfOpen = false }: { readonly allowHalfOpen?: boolean } = {},
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen });
    const fail = (reason: string): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(
        new BureauError("unavailable", `Cannot reach the ${peer} at "${path}": ${reason}`, {
          ...(hint === undefined ? {} : { hint }),
        }),
      );
    };
    const timer = setTimeout(() => fail(`no connection within ${DIAL_MS_MAX} ms`), DIAL_MS_MAX);
    socket.once("error", (error) => fail(errnoOf(error) ?? messageOf(error)));
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.removeAllListeners("error");
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}
