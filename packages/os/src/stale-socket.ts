/** What a killed server leaves behind: its socket file, on which nobody can listen until it is gone. */
import { lstatSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { BureauError, errnoOf, messageOf } from "@bureau/kit/errors";

/**
 * Removes a socket file that nobody listens on.
 * @throws BureauError `conflict` when somebody does, when that cannot be told, and when the file is no socket
 */
export async function clearStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new BureauError("conflict", `Cannot listen on "${path}": a file that is no socket lies there`);
  const refusal = await new Promise<string>((resolve) => {
    const probe = connect({ path });
    probe.once("connect", () => {
      probe.destroy();
      resolve("another process answers there");
    });
    probe.once("error", (error) => resolve(errnoOf(error) ?? messageOf(error)));
  });
  // Only these two say that nobody listens: no permission or a full queue do not.
  if (refusal !== "ECONNREFUSED" && refusal !== "ENOENT")
    throw new BureauError("conflict", `Cannot listen on "${path}": ${refusal}`);
  rmSync(path, { force: true });
}
