/** The socket file that a killed server leaves behind. No program can listen there until it is removed. */
import { lstatSync, rmSync } from "node:fs";
import { BureauError, errnoOf, messageOf } from "@bureau/kit/errors";

/**
 * Removes a socket file on which no program listens.
 * @throws BureauError `conflict` when a program does, when that cannot be determined, and when the file is no socket
 */
export async function clearStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new BureauError("conflict", `Cannot listen on "${path}": the file is not a socket`);
  const refusal = await Bun.connect({ unix: path, socket: { data() {} } }).then(
    (client) => {
      client.terminate();
      return "another process answers there";
    },
    (error: unknown) => errnoOf(error) ?? messageOf(error),
  );
  // Only these two mean that no program listens: no permission and a full queue do not.
  if (refusal !== "ECONNREFUSED" && refusal !== "ENOENT")
    throw new BureauError("conflict", `Cannot listen on "${path}": ${refusal}`);
  rmSync(path, { force: true });
}
