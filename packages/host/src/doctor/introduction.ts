/** The state of a host that has not joined a fleet, in one line, with the command to join. */
import { systemHost } from "@bureau/os/layout";
import type { HostView } from "../checks/host-view.ts";
import { look } from "../system/look.ts";

const join = "bureau machine doctor --fix --bootstrap-file FILE";

/** Undefined for a machine that has joined. */
export function introductionOf(host: Pick<HostView, "hasJoined" | "identity">): string | undefined {
  const isBare = [systemHost.machineConf, systemHost.installRecord].every(
    (path) => look(path).kind === "absent",
  );
  if (isBare)
    return `Bureau is not installed on this host. To join a fleet: ${join} (an administrator makes FILE with machine provision). To try Bureau as yourself, without root: bureau up.`;
  if (host.hasJoined()) return undefined;
  const machine = host.identity()?.machine;
  return `This host is prepared${machine === undefined ? "" : ` as ${machine}`}, and has not joined its fleet. To join: ${join}`;
}
