/** Parses the launcher's command line (wire facts, section 9.11) into one typed value, before any change on the machine. */
import { resolve } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { groupIdOf } from "@bureau/os/group-id";
import { systemHost } from "@bureau/os/layout";
import { HOMESERVER_DEFAULT, type MachineConfig, parseMachineFlags } from "@bureau/os/machine-flags";
import { ownBuild } from "@bureau/os/own-build";
import { LOCALPART_BYTES_MAX, localpartBytesMaxFor } from "@bureau/schema/refs";
import { type JoinSource, joinFlags, joinSourceOf } from "./join-flags.ts";

export type LauncherConfig = MachineConfig &
  JoinSource & {
    /** The build: `bin/bureau-proxy` runs from it, and sandboxes have it mounted read-only. */
    readonly buildDir: string;
    /** The command that starts a proxy, without its arguments. Default `[<buildDir>/bin/bureau-proxy]`. */
    readonly proxyCommand: readonly string[];
    /** A socket that starts a proxy, in its own unit, for each connection; undefined: the launcher starts them as children. */
    readonly proxySocket: string | undefined;
    /** The tmux server has its own unit: the launcher waits for it and never starts it. */
    readonly externalTerminals: boolean;
    /** The group whose members may connect to services; undefined: only the launcher's user. */
    readonly operatorsGid: number | undefined;
    /** Join the fleet and exit. */
    readonly firstBootOnly: boolean;
  };

/** Parses flags; returns `version` for `--version`. @throws BureauError or RefError */
export function parseLauncherFlags(args: readonly string[]): LauncherConfig | "version" {
  const parsed = parseMachineFlags(args, {
    "programs-dir": { type: "string" },
    ...joinFlags,
    "first-boot-only": { type: "boolean", default: false },
    "operators-group": { type: "string", default: "" },
    "proxy-socket": { type: "string" },
    "external-terminals": { type: "boolean", default: false },
  });
  if (parsed === "version") return "version";
  const { machine, values } = parsed;
  const buildDir = resolve(values["programs-dir"] ?? ownBuild());
  return {
    ...machine,
    homeserverUrl: machine.homeserverUrl === "" ? HOMESERVER_DEFAULT : machine.homeserverUrl,
    buildDir,
    proxyCommand: [resolve(buildDir, "bin/bureau-proxy")],
    proxySocket: values["proxy-socket"],
    externalTerminals: values["external-terminals"],
    operatorsGid: groupId(values["operators-group"]),
    ...joinSourceOf(values),
    firstBootOnly: values["first-boot-only"],
  };
}

/** @throws BureauError `not-found`: the launcher must not start without the group that a flag names */
function groupId(name: string): number | undefined {
  if (name === "") return undefined;
  const id = groupIdOf(name);
  if (id === undefined)
    throw new BureauError("not-found", `There is no group "${name}" on this machine`, {
      hint: `sudo ${systemHost.command} machine doctor --fix`,
    });
  return id;
}

/** Warns at the start when long names do not fit into socket paths. */
export function warnOfLongRunDir(config: LauncherConfig, log: Log): void {
  const { runDir } = config.layout;
  if (localpartBytesMaxFor(runDir) < LOCALPART_BYTES_MAX)
    log.warn(
      "launcher.run-folder-long",
      "the path of the run folder is long: principals with long names cannot start",
      {
        runDir,
        localpartBytesMax: localpartBytesMaxFor(runDir),
      },
    );
}
