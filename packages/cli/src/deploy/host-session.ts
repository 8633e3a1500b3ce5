/** Whether a machine's first boot is complete on its host: its session is the last thing that is written there. */
import { BureauError } from "@bureau/kit/errors";
import { machineSessionFile, systemLayout } from "@bureau/os/layout";
import { quote } from "../remote/host-shell.ts";
import type { Root } from "./privilege.ts";

const LOOK_MS_MAX = 30_000;

/**
 * A published key does not say it: first boot publishes the key before it has written the session, and may have been cut
 * off in between. Only root and the system user may look. @throws BureauError `failed` when the host does not answer
 */
export async function hasSession(
  root: Root,
  hostName: string,
  path: string = machineSessionFile(systemLayout),
): Promise<boolean> {
  // What is printed, and not the exit code, which may be sudo's own.
  const argv = ["sh", "-c", 'if [ -s "$1" ]; then echo yes; else echo no; fi', "sh", path];
  const ran = await root.run(argv, { timeoutMs: LOOK_MS_MAX });
  const answer = ran.stdout.trim().split("\n").at(-1);
  if (answer === "yes" || answer === "no") return answer === "yes";
  throw new BureauError(
    "failed",
    `Cannot see whether ${hostName} has "${path}": exit code ${ran.code}${quote(ran)}`,
  );
}
