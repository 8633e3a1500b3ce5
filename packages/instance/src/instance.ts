/**
 * A rootless instance: one folder, with the names that the first `bureau up` chose. Every later command reads homeserver,
 * fleet and machine from its `instance.json`.
 */
import { hostname } from "node:os";
import { BureauError } from "@bureau/kit/errors";
import { readIfPresent, writeDurably } from "@bureau/os/durable-file";
import { type EgressSettings, noEgressSettings } from "@bureau/os/egress";
import { defaultHome, type InstanceLayout, instanceLayout } from "@bureau/os/layout";
import { addressOfSocket, HomeserverAddressSchema, socketOf } from "@bureau/schema/homeserver-address";
import { parseJson, ref } from "@bureau/schema/parse";
import {
  type FleetLocalpart,
  fleetLocalpart,
  type MachineLocalpart,
  machineLocalpart,
  type Namespace,
  namespaceOf,
  parseFleet,
  parseMachine,
  parseNamespace,
  parseServerName,
  type ServerName,
} from "@bureau/schema/refs";
import * as v from "valibot";

const InstanceSchema = v.object({
  version: v.literal(1),
  homeserver_url: HomeserverAddressSchema,
  /** `HOST:PORT` where its homeserver listens for other clients, when one was configured. */
  listen: v.optional(v.string()),
  /** How its proxies reach the network. */
  egress: v.optional(v.object({ httpsProxy: v.string(), noProxy: v.string(), caCerts: v.string() })),
  server_name: ref(parseServerName),
  fleet: ref(parseFleet),
  machine: ref(parseMachine),
});

export type Instance = {
  readonly layout: InstanceLayout;
  /** Its homeserver's socket; an instance of an earlier version has a port until `bureau up` moves it. */
  readonly homeserverUrl: string;
  /** `HOST:PORT`, for other clients. */
  readonly listen: string | undefined;
  readonly egress: EgressSettings;
  readonly serverName: ServerName;
  readonly namespace: Namespace;
  readonly fleet: FleetLocalpart;
  readonly machine: MachineLocalpart;
};

type Env = Readonly<Record<string, string | undefined>>;

/** The layout `--home` or the environment names. */
export const layoutFor = (home: string | undefined, env: Env): InstanceLayout =>
  instanceLayout(home ?? defaultHome(env), env);

/** The instance in `layout`'s folder; undefined when none was started there. */
export function findInstance(layout: InstanceLayout): Instance | undefined {
  const text = readIfPresent(layout.instanceFile);
  if (text === undefined) return undefined;
  const stored = parseJson(
    InstanceSchema,
    text,
    layout.instanceFile,
    `move it away, then bureau up: it makes the file again, with default names`,
  );
  return {
    layout,
    homeserverUrl: stored.homeserver_url,
    listen: stored.listen,
    egress: stored.egress ?? noEgressSettings,
    serverName: stored.server_name,
    namespace: namespaceOf(stored.fleet),
    fleet: stored.fleet,
    machine: stored.machine,
  };
}

/** @throws BureauError `not-found` when none was started there */
export function requireInstance(layout: InstanceLayout): Instance {
  const instance = findInstance(layout);
  if (instance === undefined)
    throw new BureauError("not-found", `There is no Bureau in "${layout.home}"`, {
      hint: "bureau up starts one there",
    });
  return instance;
}

/** Chooses the names of a new instance and writes them. */
export function createInstance(layout: InstanceLayout, listen: string | undefined): Instance {
  const namespace = parseNamespace("bureau");
  const fleet = fleetLocalpart(namespace, "local");
  const machine = machineLocalpart(fleet, machineNameFrom(hostname()));
  return writeInstance({
    layout,
    homeserverUrl: homeserverAddress(layout),
    listen,
    egress: noEgressSettings,
    serverName: parseServerName("bureau.local"),
    namespace,
    fleet,
    machine,
  });
}

export function writeInstance(instance: Instance): Instance {
  const stored: v.InferInput<typeof InstanceSchema> = {
    version: 1,
    homeserver_url: instance.homeserverUrl,
    ...(instance.listen === undefined ? {} : { listen: instance.listen }),
    ...(Bun.deepEquals(instance.egress, noEgressSettings) ? {} : { egress: instance.egress }),
    server_name: instance.serverName,
    fleet: instance.fleet,
    machine: instance.machine,
  };
  writeDurably(instance.layout.instanceFile, `${JSON.stringify(stored, null, 2)}\n`, 0o600);
  return instance;
}

/** How the programs of an instance reach its homeserver: over a socket in a folder that only its user may enter. */
export const homeserverAddress = (layout: InstanceLayout): string => addressOfSocket(layout.homeserverSocket);

/** Longest machine name made from a host name; longer fleet names need the other bytes of a localpart. */
const MACHINE_NAME_MAX = 24;

/** A host name as a segment: lower case, other characters become dashes. */
export function machineNameFrom(host: string): string {
  const name = (host.split(".")[0] ?? "")
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, MACHINE_NAME_MAX);
  return name === "" ? "machine" : name;
}

/** The port that an instance of an earlier version reaches its homeserver by; undefined when it has a socket. */
export const portOf = ({ homeserverUrl }: Instance): number | undefined =>
  socketOf(homeserverUrl) === undefined ? Number(new URL(homeserverUrl).port) : undefined;

/** The `--listen` flags of its homeserver. */
export const listenFlags = ({ layout, homeserverUrl, listen }: Instance): string[] =>
  [
    homeserverAddress(layout),
    ...(socketOf(homeserverUrl) === undefined ? [new URL(homeserverUrl).host] : []),
    ...(listen === undefined ? [] : [listen]),
  ].flatMap((address) => ["--listen", address]);
