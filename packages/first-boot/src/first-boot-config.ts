/** The command line of `bureau-first-boot`: the machine's flags, and how it joins. */
import { type JoinSource, joinFlags, joinSourceOf } from "@bureau/launcher/join-flags";
import { HOMESERVER_DEFAULT, type MachineConfig, parseMachineFlags } from "@bureau/os/machine-flags";

export type FirstBootConfig = MachineConfig & JoinSource;

/** Parses flags; the string `version` when only that was asked for. @throws BureauError or RefError */
export function parseFirstBootFlags(args: readonly string[]): FirstBootConfig | "version" {
  const parsed = parseMachineFlags(args, joinFlags);
  if (parsed === "version") return "version";
  const { machine, values } = parsed;
  return {
    ...machine,
    homeserverUrl: machine.homeserverUrl === "" ? HOMESERVER_DEFAULT : machine.homeserverUrl,
    ...joinSourceOf(values),
  };
}
