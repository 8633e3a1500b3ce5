/**
 * The flags that launcher and daemon share (wire facts, sections 9.11 and 9.12): who the machine is and where its
 * folders are. One table, one parser, so that the two cannot disagree about a machine.
 */
import { resolve } from "node:path";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { version } from "@bureau/kit/version";
import { parseHomeserverAddress } from "@bureau/schema/homeserver-address";
import {
  type FleetLocalpart,
  fleetOf,
  localpartBytesMaxFor,
  type MachineLocalpart,
  parseFleet,
  parseMachine,
  parseServerName,
  RefError,
  type ServerName,
} from "@bureau/schema/refs";
import { type Layout, systemLayout } from "./layout.ts";
import { exitCodes, type ProgramContext } from "./lifecycle.ts";

export type MachineConfig = {
  readonly layout: Layout;
  /** Without a slash at its end; empty when the flag was not given. */
  readonly homeserverUrl: string;
  readonly machine: MachineLocalpart;
  readonly serverName: ServerName;
  readonly fleet: FleetLocalpart;
};

/** The reference's own default (section 9.11). */
export const HOMESERVER_DEFAULT = "http://localhost:6167";

const sharedOptions = {
  homeserver: { type: "string", default: "" },
  "machine-name": { type: "string" },
  "server-name": { type: "string", default: "bureau.local" },
  fleet: { type: "string" },
  "run-dir": { type: "string", default: systemLayout.runDir },
  "state-dir": { type: "string", default: systemLayout.stateDir },
  "workspace-root": { type: "string", default: systemLayout.workspaceRoot },
  "cache-root": { type: "string", default: systemLayout.cacheRoot },
  version: { type: "boolean", default: false },
} as const;

type Options = NonNullable<ParseArgsConfig["options"]>;
type Values<Extra extends Options> = ReturnType<
  typeof parseArgs<{ options: typeof sharedOptions & Extra; allowPositionals: false }>
>["values"];

/**
 * Parses the shared flags and a program's own (`extra`). The fleet follows from the machine's name when it is not
 * given.
 * @returns `version` when that is all that was asked for. @throws BureauError or RefError
 */
export function parseMachineFlags<const Extra extends Options>(
  args: readonly string[],
  extra: Extra,
): { readonly machine: MachineConfig; readonly values: Values<Extra> } | "version" {
  let values: Values<Extra>;
  try {
    const options = { ...sharedOptions, ...extra };
    values = parseArgs({ args: [...args], options, allowPositionals: false }).values as Values<Extra>;
  } catch (error) {
    throw new BureauError("invalid-input", messageOf(error));
  }
  const shared = values as ReturnType<typeof parseArgs<{ options: typeof sharedOptions }>>["values"];
  if (shared.version) return "version";
  const machine = parseMachine(required(shared["machine-name"], "--machine-name"));
  const fleet = shared.fleet === undefined ? fleetOf(machine) : parseFleet(shared.fleet);
  if (fleetOf(machine) !== fleet)
    throw new BureauError("invalid-input", `The machine "${machine}" is not in the fleet "${fleet}"`);
  return {
    machine: {
      layout: layoutOf(shared),
      homeserverUrl: shared.homeserver === "" ? "" : parseHomeserverAddress(shared.homeserver),
      machine,
      serverName: parseServerName(shared["server-name"]),
      fleet,
    },
    values,
  };
}

function layoutOf(
  shared: Readonly<Record<"run-dir" | "state-dir" | "workspace-root" | "cache-root", string>>,
): Layout {
  const runDir = resolve(shared["run-dir"]);
  if (localpartBytesMaxFor(runDir) < 1)
    throw new BureauError(
      "invalid-input",
      `The run folder "${runDir}" is too long: no socket fits below it`,
      {
        hint: "choose a shorter --run-dir",
      },
    );
  return {
    runDir,
    stateDir: resolve(shared["state-dir"]),
    workspaceRoot: resolve(shared["workspace-root"]),
    cacheRoot: resolve(shared["cache-root"]),
  };
}

function required(value: string | undefined, flag: string): string {
  if (value !== undefined && value !== "") return value;
  throw new BureauError("invalid-input", `${flag} is missing`);
}

/** The flags that {@link parseMachineFlags} reads back as the same machine. */
export const machineArguments = (machine: MachineConfig): string[] => [
  ...(machine.homeserverUrl === "" ? [] : ["--homeserver", machine.homeserverUrl]),
  ...["--machine-name", machine.machine, "--server-name", machine.serverName, "--fleet", machine.fleet],
  ...["--run-dir", machine.layout.runDir, "--state-dir", machine.layout.stateDir],
  ...["--workspace-root", machine.layout.workspaceRoot, "--cache-root", machine.layout.cacheRoot],
];

/** The result of `parse`, or the exit code when there is nothing to run; then prints the version or the error. */
export function configOrExit<Config extends object>(
  { args, log }: ProgramContext,
  parse: (args: readonly string[]) => Config | "version",
): Config | number {
  try {
    const config = parse(args);
    if (config !== "version") return config;
    console.log(version);
    return exitCodes.ok;
  } catch (error) {
    if (!(isBureauError(error) || error instanceof RefError)) throw error;
    log.error(
      "program.usage",
      error.message,
      isBureauError(error) && error.hint !== "" ? { hint: error.hint } : {},
    );
    return exitCodes.usage;
  }
}
