/** The launcher's command line (wire facts, section 9.11) as one typed value, checked before anything is touched. */
import { resolve } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { type MachineConfig, parseMachineFlags } from "@bureau/kit/machine-flags";
import { LOCALPART_BYTES_MAX, localpartBytesMaxFor } from "@bureau/schema/refs";

export type LauncherConfig = MachineConfig & {
  /** The built programs: `bin/bureau-proxy` is started from it, and sandboxes see it read-only. */
  readonly programsDir: string;
  /** How a proxy is started, before its own arguments. Default `[<programsDir>/bin/bureau-proxy]`. */
  readonly proxyCommand: readonly string[];
  /** `-` is standard input. */
  readonly bootstrapFile: string | undefined;
  readonly registrationTokenFile: string | undefined;
  readonly firstBootOnly: boolean;
};

/** The reference's own default (section 9.11). */
const HOMESERVER_DEFAULT = "http://localhost:6167";

/** Parses flags; the string `version` when only that was asked for. @throws BureauError or RefError */
export function parseLauncherFlags(args: readonly string[]): LauncherConfig | "version" {
  const parsed = parseMachineFlags(args, {
    "programs-dir": { type: "string" },
    "bootstrap-file": { type: "string" },
    "registration-token-file": { type: "string" },
    "first-boot-only": { type: "boolean", default: false },
  });
  if (parsed === "version") return "version";
  const { machine, values } = parsed;
  if (values["bootstrap-file"] !== undefined && values["registration-token-file"] !== undefined)
    throw new BureauError(
      "invalid-input",
      "--bootstrap-file and --registration-token-file exclude each other",
    );
  // A bundle lies in lib/<program>/ of its build.
  const programsDir = resolve(values["programs-dir"] ?? resolve(import.meta.dirname, "../.."));
  return {
    ...machine,
    homeserverUrl: machine.homeserverUrl === "" ? HOMESERVER_DEFAULT : machine.homeserverUrl,
    programsDir,
    proxyCommand: [resolve(programsDir, "bin/bureau-proxy")],
    bootstrapFile: values["bootstrap-file"],
    registrationTokenFile: values["registration-token-file"],
    firstBootOnly: values["first-boot-only"],
  };
}

/** Says at the start that some names will not fit. */
export function warnOfLongRunDir(config: LauncherConfig, log: Log): void {
  const { runDir } = config.layout;
  if (localpartBytesMaxFor(runDir) < LOCALPART_BYTES_MAX)
    log.warn("the run folder is long: principals with long names cannot be started", {
      runDir,
      localpartBytesMax: localpartBytesMaxFor(runDir),
    });
}
