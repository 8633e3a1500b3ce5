/**
 * What checks know of the host. Each fact is read when the first check asks for it and shared by the others, so a whole
 * doctor sends one request to systemd, one to the daemon and one to the homeserver. A view shows one moment: the next round
 * of a fix opens a new one.
 */
import type { Instance } from "@bureau/instance/instance";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { type BureauError, errnoOf, isBureauError, messageOf } from "@bureau/kit/errors";
import { machineReport } from "@bureau/os/daemon-client";
import { configureEgress, type EgressSettings, noEgressSettings } from "@bureau/os/egress";
import { type Layout, machineSessionFile, systemHost, systemLayout } from "@bureau/os/layout";
import { type MachineConf, parseMachineConf } from "@bureau/os/machine-conf";
import { readMachineSession, type StoredSession } from "@bureau/os/session-file";
import { type UnitState, unitStates } from "@bureau/os/systemctl";
import type { MachineReport } from "@bureau/schema/observe-wire";
import type { MachineLocalpart, ServerName } from "@bureau/schema/refs";
import { readRecord } from "../resources/host-record.ts";
import { readAccounts } from "../system/accounts.ts";
import { look, textOf } from "../system/look.ts";
import type { Accounts } from "../system/parse-accounts.ts";
import { unitFiles } from "../units/unit-files.ts";
import { askHomeserver, type HomeserverAnswer } from "./ask-homeserver.ts";

/** `problem`: there is a file that cannot be used. */
export type ConfState = { readonly conf?: MachineConf; readonly problem?: BureauError };

export type HostView = {
  readonly kind: "system" | "rootless";
  readonly layout: Layout;
  readonly isRoot: boolean;
  /** The user who should be in the operators' group; undefined when root itself asks. */
  readonly operator: string | undefined;
  /** The machine that the flags name. */
  readonly wanted: MachineConf | undefined;
  readonly hasBootstrap: boolean;
  /** The build this doctor runs from, links resolved. */
  readonly ownBuild: string;
  readonly clock: Clock;
  readonly accounts: () => Accounts;
  readonly conf: () => ConfState;
  /** Which machine this is: from the instance, machine.conf or the flags. */
  readonly identity: () => MachineIdentity | undefined;
  /** By name; templates are not among them. */
  readonly units: () => Promise<ReadonlyMap<string, UnitState>>;
  /** How its programs reach the network; undefined while neither flags nor a file tell. */
  readonly egress: () => EgressSettings | undefined;
  /** The daemon's report, or why there is none. */
  readonly report: () => Promise<MachineReport | BureauError>;
  /** Undefined while no homeserver is known. */
  readonly homeserver: () => Promise<HomeserverAnswer | undefined>;
  /** The machine's own session; `hidden` when the caller may not read it. */
  readonly session: () => StoredSession | "absent" | "hidden" | { readonly problem: string };
  /**
   * Whether this machine has what launcher and daemon need: its key and its session. A caller who may not look there
   * learns it from the record, which every user may read: units are enabled once the machine has joined.
   */
  readonly hasJoined: () => boolean;
};

export type MachineIdentity = {
  readonly homeserverUrl: string;
  readonly machine: MachineLocalpart;
  readonly serverName: ServerName;
};

export type ViewOptions = {
  /** The rootless instance to check; undefined: the system installation. */
  readonly instance?: Instance | undefined;
  readonly operator?: string | undefined;
  readonly wanted?: MachineConf | undefined;
  readonly hasBootstrap?: boolean;
  readonly ownBuild: string;
  readonly clock?: Clock;
};

export function openHostView(options: ViewOptions): HostView {
  const { instance } = options;
  const layout = instance?.layout ?? systemLayout;
  const conf = once(() => (instance === undefined ? readConf() : {}));
  const units = once(() => unitStates(unitFiles.map(({ name }) => name)));
  const identity = (): MachineIdentity | undefined => instance ?? conf().conf ?? options.wanted;
  const egress = (): EgressSettings | undefined => instance?.egress ?? options.wanted ?? conf().conf;
  return {
    kind: instance === undefined ? "system" : "rootless",
    layout,
    isRoot: process.getuid?.() === 0,
    operator: options.operator,
    wanted: options.wanted,
    hasBootstrap: options.hasBootstrap === true,
    ownBuild: options.ownBuild,
    clock: options.clock ?? systemClock,
    accounts: once(readAccounts),
    conf,
    identity,
    egress,
    units,
    report: once(() => machineReport(layout).catch(bureauErrorOrThrow)),
    homeserver: once(async () => {
      const url = identity()?.homeserverUrl;
      if (url === undefined) return undefined;
      // The same way that the machine itself takes.
      configureEgress(egress() ?? noEgressSettings);
      return askHomeserver(url);
    }),
    session: once(() => readSession(machineSessionFile(layout))),
    hasJoined: once(() => instance !== undefined || hasJoined()),
  };
}

function readConf(): ConfState {
  const text = textOf(systemHost.machineConf);
  if (text === undefined) return {};
  try {
    return { conf: parseMachineConf(text, systemHost.machineConf) };
  } catch (error) {
    return { problem: bureauErrorOrThrow(error) };
  }
}

function hasJoined(): boolean {
  const kinds = [systemHost.sealedKey, machineSessionFile(systemLayout)].map((path) => look(path).kind);
  if (!kinds.includes("hidden")) return !kinds.includes("absent");
  try {
    return readRecord()?.entries.some(({ kind }) => kind === "enabled") === true;
  } catch {
    // An unreadable record does not mean that the machine has not joined.
    return true;
  }
}

function readSession(path: string): ReturnType<HostView["session"]> {
  const { kind } = look(path);
  if (kind === "absent" || kind === "hidden") return kind;
  try {
    return readMachineSession(path);
  } catch (error) {
    return errnoOf(error) === "EACCES" ? "hidden" : { problem: messageOf(error) };
  }
}

function bureauErrorOrThrow(error: unknown): BureauError {
  if (isBureauError(error)) return error;
  throw error;
}

function once<T>(gather: () => T): () => T {
  let kept: { readonly value: T } | undefined;
  return () => {
    kept ??= { value: gather() };
    return kept.value;
  };
}
