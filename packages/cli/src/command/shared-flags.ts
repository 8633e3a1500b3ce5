/** Flags and arguments that several commands have. */
import { defineFlags, type FlagValues, type Positional } from "./command.ts";

export const jsonFlag = defineFlags({
  json: { type: "boolean", summary: "Print the result as JSON" },
});

export const dryRunFlag = defineFlags({
  "dry-run": { type: "boolean", summary: "Show what would be done; change nothing" },
});

/** For commands that change accounts. */
export const adminTokenFlag = defineFlags({
  "admin-token-file": {
    type: "string",
    value: "PATH",
    summary: "File with the access token of a server admin, when the administrator is not one",
  },
});

/** The instance that a command is about. */
export const homeFlag = defineFlags({
  home: {
    type: "string",
    value: "DIR",
    summary: "The instance's folder (default: $BUREAU_HOME, else ~/.local/share/bureau)",
  },
});

/** How a command reaches Matrix. Each value falls back to the operator's session. */
export const sessionFlags = defineFlags({
  ...homeFlag,
  "credential-file": {
    type: "string",
    value: "PATH",
    summary: "Credentials of an administrator, KEY=VALUE lines",
  },
  homeserver: { type: "string", value: "URL", summary: "The homeserver (default: the session's)" },
  "token-file": {
    type: "string",
    value: "PATH",
    summary: "File with an access token (default: the session's)",
  },
});

/** The fleet that a command is about. */
export const fleetFlag = defineFlags({
  fleet: {
    type: "string",
    value: "FLEET",
    summary: "The fleet, NAMESPACE/fleet/NAME (default: this machine's, else that of bureau fleet use)",
  },
});

/** The machine that an agent's command is about. */
export const machineFlag = defineFlags({
  ...fleetFlag,
  machine: {
    type: "string",
    value: "NAME",
    summary: "The machine: its name or full localpart (default: this one)",
  },
});

/** Who else can open what is sealed. */
export const escrowFlag = defineFlags({
  "escrow-key": {
    type: "string",
    value: "RECIPIENT",
    multiple: true,
    summary: "Public age key (age1… or age1pq1…) that can open it too",
  },
});

/** For a person who operates the fleet. */
export const operatorFlag = defineFlags({
  operator: {
    type: "boolean",
    summary: "In every room of the namespace, with the administrator's power there",
  },
});

/** How an installation's programs reach the network. */
export const egressFlags = defineFlags({
  "https-proxy": {
    type: "string",
    value: "URL",
    mayBeEmpty: true,
    summary: 'Forward proxy for TLS to other hosts; http:// bypasses it ("" for none)',
  },
  "no-proxy": {
    type: "string",
    value: "HOSTS",
    mayBeEmpty: true,
    summary: "Hosts to reach directly, comma-separated",
  },
  "ca-certs": {
    type: "string",
    value: "PATH",
    mayBeEmpty: true,
    summary: 'More certificate authorities: a PEM file, or a folder of them ("" for none)',
  },
});

export type HomeValue = FlagValues<typeof homeFlag>;
export type SessionValues = FlagValues<typeof sessionFlags>;
export type AdminTokenValue = FlagValues<typeof adminTokenFlag>;
export type FleetValue = FlagValues<typeof fleetFlag>;
export type EgressValues = FlagValues<typeof egressFlags>;

export const agentPositional = { name: "name", summary: "The agent" } as const satisfies Positional;
export const fleetPositional = {
  name: "fleet",
  summary: "NAMESPACE/fleet/NAME",
} as const satisfies Positional;
export const machinePositional = {
  name: "machine",
  summary: "Its name in the fleet, or full localpart",
} as const satisfies Positional;
export const optionalMachinePositional = {
  name: "machine",
  summary: "Name or full localpart (default: this one)",
  optional: true,
} as const satisfies Positional;
export const roomPositional = {
  name: "room",
  summary: "Alias, its localpart, or room ID",
} as const satisfies Positional;
export const rolloutPositional = { name: "rollout", summary: "Its id" } as const satisfies Positional;
