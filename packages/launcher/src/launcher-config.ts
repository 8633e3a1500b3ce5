/** The launcher's command line (wire facts, section 9.11) as one typed value, checked before anything is touched. */

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
    /** The built programs: `bin/bureau-proxy` is started from it, and sandboxes see it read-only. */
    readonly buildDir: string;
    /** How a proxy is started, before its own arguments. Default `[<buildDir>/bin/bureau-proxy]`. */
    readonly proxyCommand: readonly string[];
    /** A socket that starts a proxy for each connection, in a unit of its own; undefined: proxies are our children. */
    readonly proxySocket: string | undefined;
    /** The tmux server is a unit of its own: it is waited for, never started. */
    readonly externalTerminals: boolean;
    /** Whose members may reach services; undefined: only our own user. */
    readonly operatorsGid: number | undefined;
    /** Join the fleet and exit. */
    readonly firstBootOnly: boolean;
  };

/** Parses flags; the string `version` when only that was asked for. @throws BureauError or RefError */
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
  const buildDir = resolve(values["programs-dir"] ?? ownBuild(import.meta.dirname));
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

/** @throws BureauError `not-found`: a group that was asked for and is not there must not be done without */
function groupId(name: string): number | undefined {
  if (name === "") return undefined;
  const id = groupIdOf(name);
  if (id === undefined)
    throw new BureauError("not-found", `There is no group "${name}" on this machine`, {
      hint: `sudo ${systemHost.command} machine doctor --fix`,
    });
  return id;
}

/** Says at the start that some names will not fit. */
export function warnOfLongRunDir(config: LauncherConfig, log: Log): void {
  const { runDir } = config.layout;
  if (localpartBytesMaxFor(runDir) < LOCALPART_BYTES_MAX)
    log.warn(
      "launcher.run-folder-long",
      "the run folder is long: principals with long names cannot be started",
      {
        runDir,
        localpartBytesMax: localpartBytesMaxFor(runDir),
      },
    );
}
