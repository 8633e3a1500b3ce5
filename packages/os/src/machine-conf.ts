/**
 * `/etc/bureau/machine.conf`: which machine of which fleet a system installation is (wire facts, section 9.1). Lines of
 * `KEY=VALUE`, comments and blank lines between them; systemd reads it as an EnvironmentFile.
 */
import { BureauError, messageOf } from "@bureau/kit/errors";
import { parseHomeserverAddress } from "@bureau/schema/homeserver-address";
import {
  type FleetLocalpart,
  fleetOf,
  type MachineLocalpart,
  parseFleet,
  parseMachine,
  parseServerName,
  type ServerName,
} from "@bureau/schema/refs";
import { readIfPresent } from "./durable-file.ts";
import { type EgressSettings, egressKeys, noEgressSettings, parseProxy } from "./egress.ts";
import { systemHost } from "./layout.ts";

export type MachineConf = EgressSettings & {
  /** Without a slash at its end. */
  readonly homeserverUrl: string;
  readonly machine: MachineLocalpart;
  readonly serverName: ServerName;
  readonly fleet: FleetLocalpart;
  readonly systemUser: string;
  readonly operatorsGroup: string;
};

/** In the order they are written. */
const keys = {
  homeserverUrl: "BUREAU_HOMESERVER_URL",
  machine: "BUREAU_MACHINE_NAME",
  serverName: "BUREAU_SERVER_NAME",
  fleet: "BUREAU_FLEET",
  systemUser: "BUREAU_SYSTEM_USER",
  operatorsGroup: "BUREAU_OPERATORS_GROUP",
  ...egressKeys,
} as const;

/** `BUREAU_MACHINE_CONF`, else the system's. */
export function machineConfPath(env: Readonly<Record<string, string | undefined>>): string {
  const explicit = env["BUREAU_MACHINE_CONF"];
  return explicit === undefined || explicit === "" ? systemHost.machineConf : explicit;
}

/** The machine of this host; undefined when there is no such file. @throws BureauError `invalid-input` */
export function readMachineConf(path: string): MachineConf | undefined {
  const text = readIfPresent(path);
  return text === undefined ? undefined : parseMachineConf(text, path);
}

/** @throws BureauError `invalid-input` that names the key */
export function parseMachineConf(text: string, path: string): MachineConf {
  const values = valuesOf(text, path);
  const bad = (problem: string): BureauError =>
    new BureauError("invalid-input", `"${path}" ${problem}`, {
      hint: "bureau machine doctor --fix with --homeserver, --machine-name, --server-name and --fleet writes it again",
    });
  const read = <T>(key: string, parse: (value: string) => T): T => {
    const value = values.get(key);
    if (value === undefined || value === "") throw bad(`has no ${key}`);
    try {
      return parse(value);
    } catch (error) {
      throw bad(`has a wrong ${key}: ${messageOf(error)}`);
    }
  };
  const machine = read(keys.machine, parseMachine);
  const fleet = read(keys.fleet, parseFleet);
  if (fleetOf(machine) !== fleet)
    throw bad(`contradicts itself: the machine "${machine}" is not in the fleet "${fleet}"`);
  return {
    homeserverUrl: read(keys.homeserverUrl, parseHomeserverAddress),
    machine,
    serverName: read(keys.serverName, parseServerName),
    fleet,
    systemUser: values.get(keys.systemUser) || systemHost.user,
    operatorsGroup: values.get(keys.operatorsGroup) || systemHost.operatorsGroup,
    httpsProxy: values.get(keys.httpsProxy) ? read(keys.httpsProxy, parseProxy) : "",
    noProxy: values.get(keys.noProxy) ?? "",
    caCerts: values.get(keys.caCerts) ? read(keys.caCerts, absolutePath) : "",
  };
}

function absolutePath(value: string): string {
  if (!value.startsWith("/")) throw new Error("it is not an absolute path");
  return value;
}

/** The file's text; user, group and egress only when they are not the defaults. */
export function formatMachineConf(conf: MachineConf): string {
  const usual: Partial<Record<keyof MachineConf, string>> = {
    systemUser: systemHost.user,
    operatorsGroup: systemHost.operatorsGroup,
    ...noEgressSettings,
  };
  const lines = (Object.keys(keys) as (keyof MachineConf)[])
    .filter((name) => conf[name] !== usual[name])
    .map((name) => `${keys[name]}=${conf[name]}`);
  return `# Which machine this is. Written by bureau machine doctor --fix.\n${lines.join("\n")}\n`;
}

function valuesOf(text: string, path: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const equals = line.indexOf("=");
    if (equals < 1)
      throw new BureauError("invalid-input", `"${path}", line ${index + 1}: "${line}" is not KEY=VALUE`);
    values.set(line.slice(0, equals).trim(), line.slice(equals + 1).trim());
  }
  return values;
}
