/**
 * What the doctor is about: the installation, the identity of the machine, its operator. Flags take precedence over the
 * bootstrap file, and that over the host's machine.conf.
 */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import type { Subject } from "@bureau/host/doctor/subject";
import { findInstance, type Instance, requireInstance } from "@bureau/instance/instance";
import { BureauError } from "@bureau/kit/errors";
import { buildDir } from "@bureau/os/build-dir";
import { type EgressSettings, noEgressSettings } from "@bureau/os/egress";
import { systemHost } from "@bureau/os/layout";
import {
  formatMachineConf,
  type MachineConf,
  parseMachineConf,
  readMachineConf,
} from "@bureau/os/machine-conf";
import { readNamed, readNamedIfPresent } from "@bureau/os/named-file";
import { parseJson } from "@bureau/schema/parse";
import { fleetOf, parseMachine } from "@bureau/schema/refs";
import * as v from "valibot";
import {
  type CommandContext,
  defineFlags,
  type FlagValues,
  UsageError,
  withRule,
} from "../command/command.ts";
import { layoutOf } from "../command/operator.ts";
import { readEgress } from "../command/read-egress.ts";
import { egressFlags, homeFlag } from "../command/shared-flags.ts";

/** With these flags the doctor runs no checks and acts on this host's record. */
export const byRecord = ["undo", "uninstall"] as const;

/** Which installation and which machine the doctor is about. */
export const subjectFlags = defineFlags({
  homeserver: {
    type: "string",
    value: "URL",
    excludes: byRecord,
    summary: "Identity of this machine: its homeserver",
  },
  "machine-name": {
    type: "string",
    value: "LOCALPART",
    excludes: byRecord,
    summary: "Identity of this machine: its full localpart",
  },
  ...withRule(egressFlags, { excludes: byRecord }),
  "server-name": {
    type: "string",
    value: "NAME",
    excludes: byRecord,
    summary: "Identity of this machine: its Matrix server name",
  },
  fleet: {
    type: "string",
    value: "LOCALPART",
    excludes: byRecord,
    summary: "Identity of this machine: its fleet",
  },
  "bootstrap-file": {
    type: "string",
    value: "PATH",
    excludes: byRecord,
    summary: 'File that bureau machine provision wrote; "-" for standard input; contains the identity, too',
  },
  operator: {
    type: "string",
    value: "USER",
    excludes: byRecord,
    summary: "User to make an operator (default: you)",
  },
  system: { type: "boolean", summary: "Use the system installation, even beside a rootless one" },
  ...withRule(homeFlag, {
    excludes: ["system", "homeserver", "machine-name", "server-name", "fleet", "bootstrap-file", ...byRecord],
  }),
});

type Asked = CommandContext & { readonly flags: FlagValues<typeof subjectFlags> };

const BootstrapSchema = v.looseObject({
  homeserver_url: v.string(),
  server_name: v.string(),
  machine_name: v.string(),
  fleet_prefix: v.string(),
});

/** @throws UsageError */
export function subjectOf(invocation: Asked): Subject {
  const bootstrap = readBootstrap(invocation);
  const wanted = wantedConf(invocation, bootstrap);
  return {
    instance: instanceOf(invocation, wanted !== undefined),
    operator: operatorOf(invocation),
    wanted,
    bootstrap,
    hasBootstrap: bootstrap !== undefined,
    ownBuild: realpathSync(buildDir()),
  };
}

/** The rootless instance to examine, by the same rule as in other commands (host/installation.ts); undefined for the system's. */
function instanceOf(invocation: Asked, isBootstrapping: boolean): Instance | undefined {
  if (invocation.flags.system || isBootstrapping) return undefined;
  const named = invocation.flags.home !== undefined || (invocation.env["BUREAU_HOME"] ?? "") !== "";
  if (!named && existsSync(systemHost.machineConf)) return undefined;
  const layout = layoutOf(invocation);
  return invocation.flags.home === undefined ? findInstance(layout) : requireInstance(layout);
}

/** The user who becomes an operator of this machine: the caller, also behind sudo. */
function operatorOf(invocation: Asked): string | undefined {
  const named = invocation.flags.operator ?? invocation.env["SUDO_USER"];
  if (named !== undefined && named !== "" && named !== "root") return named;
  return process.getuid?.() === 0 ? undefined : currentUser();
}

function currentUser(): string | undefined {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((candidate) => candidate.split(":")[2] === String(process.getuid?.()));
  return line?.split(":")[0] ?? process.env["USER"];
}

/** The file is removed after the machine has joined; a machine that has joined can be checked without it. */
function readBootstrap(invocation: Asked): string | undefined {
  const path = invocation.flags["bootstrap-file"];
  if (path === undefined) return undefined;
  const what = "the bootstrap file";
  const wasUsed =
    path !== "-" && existsSync(systemHost.machineConf) && readNamedIfPresent(path, what) === undefined;
  if (!wasUsed) return readNamed(path, what);
  invocation.terminal.say(`There is no bootstrap file "${path}": checking this machine without one.`);
  return undefined;
}

function wantedConf(invocation: Asked, bootstrap: string | undefined): MachineConf | undefined {
  const file = bootstrap === undefined ? undefined : parseBootstrap(bootstrap);
  const given = {
    BUREAU_HOMESERVER_URL: invocation.flags.homeserver ?? file?.homeserver_url,
    BUREAU_MACHINE_NAME: invocation.flags["machine-name"] ?? file?.machine_name,
    BUREAU_SERVER_NAME: invocation.flags["server-name"] ?? file?.server_name,
    BUREAU_FLEET: invocation.flags.fleet ?? file?.fleet_prefix,
  };
  const kept = keptConf();
  const egress = readEgress(invocation.flags);
  const hasEgress = Object.values(egress).some((value) => value !== undefined);
  if (Object.values(given).every((value) => value === undefined))
    return hasEgress && kept !== undefined ? withEgress(kept, egress) : undefined;
  const machine = given.BUREAU_MACHINE_NAME;
  const values = {
    ...given,
    BUREAU_FLEET: given.BUREAU_FLEET ?? (machine === undefined ? undefined : fleetOf(parseMachine(machine))),
  };
  const flags: Record<string, string> = {
    BUREAU_HOMESERVER_URL: "--homeserver",
    BUREAU_MACHINE_NAME: "--machine-name",
    BUREAU_SERVER_NAME: "--server-name",
    BUREAU_FLEET: "--fleet",
  };
  const missing = Object.entries(values).flatMap(([key, value]) =>
    value === undefined ? [flags[key] ?? key] : [],
  );
  if (missing.length > 0)
    throw new UsageError(
      `The identity of this machine is incomplete: ${missing.join(", ")} is missing`,
      "bureau machine doctor --help",
    );
  const text = Object.entries(values)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("");
  const conf = parseMachineConf(text, "the flags");
  return withEgress({ ...conf, ...egressOf(kept ?? noEgressSettings) }, egress);
}

const egressOf = ({ httpsProxy, noProxy, caCerts }: EgressSettings): EgressSettings => ({
  httpsProxy,
  noProxy,
  caCerts,
});

function withEgress(conf: MachineConf, egress: ReturnType<typeof readEgress>): MachineConf {
  const { httpsProxy = conf.httpsProxy, noProxy = conf.noProxy, caCerts = conf.caCerts } = egress;
  return parseMachineConf(formatMachineConf({ ...conf, httpsProxy, noProxy, caCerts }), "the flags");
}

/** The host's current file; undefined when it cannot be read, and is written again. */
function keptConf(): MachineConf | undefined {
  try {
    return readMachineConf(systemHost.machineConf);
  } catch {
    return undefined;
  }
}

/** Names no values: one of them is a password. */
function parseBootstrap(text: string): v.InferOutput<typeof BootstrapSchema> {
  try {
    return parseJson(BootstrapSchema, text, "bootstrap file");
  } catch (error) {
    throw new BureauError(
      "invalid-input",
      "The bootstrap file is not valid: it is not a JSON object with homeserver_url, server_name, machine_name and fleet_prefix",
      { cause: error },
    );
  }
}
