/** Whether a machine's first boot is complete on its host: the last file it writes is the session. */
import { BureauError } from "@bureau/kit/errors";
import { machineSessionFile, systemLayout } from "@bureau/os/layout";
import { quote } from "../remote/host-shell.ts";
import type { Root } from "./privilege.ts";

const LOOK_MS_MAX = 30_000;

/**
 * A published key is no proof: first boot publishes the key before it writes the session, and may have been interrupted
 * between the two. Only root and the system user may read the file. @throws BureauError `failed` when the host does not answer
 */
export async function hasSession(
  root: Root,
  hostName: string,
  path: string = machineSessionFile(systemLayout),
): Promise<boolean> {
  // The output decides, because the exit code may be sudo's.
  const argv = ["sh", "-c", 'if [ -s "$1" ]; then echo yes; else echo no; fi', "sh", path];
  const ran = await root.run(argv, { timeoutMs: LOOK_MS_MAX });
  const answer = ran.stdout.trim().split("\n").at(-1);
  if (answer === "yes" || answer === "no") return answer === "yes";
  throw new BureauError(
    "failed",
    `Cannot check whether ${hostName} has "${path}": exit code ${ran.code}${quote(ran)}`,
  );
}
