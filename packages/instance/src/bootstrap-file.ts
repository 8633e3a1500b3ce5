/** The bootstrap of one machine in a file that only its user may read. */
import {
  type Bootstrap,
  type BootstrapStore,
  bootstrapText,
  parseBootstrap,
} from "@bureau/control/machines/bootstrap";
import { BureauError } from "@bureau/kit/errors";
import { removeDurably } from "@bureau/os/durable-file";
import { readNamedIfPresent, writeNamed } from "@bureau/os/named-file";
import type { MachineLocalpart } from "@bureau/schema/refs";

const OTHER_PLACE = "--output PATH chooses another place";

export const bootstrapFileAt = (path: string, machine: MachineLocalpart): BootstrapStore => ({
  read: () => readBootstrap(path, machine),
  write: (bootstrap) => writeNamed(path, bootstrapText(bootstrap), 0o600, "the bootstrap file", OTHER_PLACE),
  remove: () => removeDurably(path),
});

/**
 * The file that an earlier provisioning of `machine` left; undefined when there is none. A file of another kind or of
 * another machine is neither used nor overwritten. Its values are not quoted: one of them is a password.
 * @throws BureauError `conflict`
 */
function readBootstrap(path: string, machine: MachineLocalpart): Bootstrap | undefined {
  const text = readNamedIfPresent(path, "the bootstrap file");
  if (text === undefined) return undefined;
  const bootstrap = parseBootstrap(text);
  if (bootstrap?.machine_name === machine) return bootstrap;
  throw new BureauError(
    "conflict",
    bootstrap === undefined
      ? `"${path}" exists, and is not a bootstrap file`
      : `"${path}" is the bootstrap file of another machine, "${bootstrap.machine_name}"`,
    { hint: OTHER_PLACE },
  );
}
