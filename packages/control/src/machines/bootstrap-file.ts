/** What a new machine is handed: who it is, where its homeserver is, and a one-time password (wire facts, section 9.2). */
import { randomBytes } from "node:crypto";
import { type Clock, timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { readNamedIfPresent, writeNamed } from "@bureau/os/named-file";
import { fleetOf, type MachineLocalpart, type ServerName } from "@bureau/schema/refs";
import * as v from "valibot";

const BootstrapSchema = v.object({
  homeserver_url: v.string(),
  server_name: v.string(),
  machine_name: v.string(),
  /** 64 hex digits; first boot replaces it. */
  password: v.pipe(v.string(), v.minLength(1)),
  fleet_prefix: v.string(),
  /** RFC 3339: ours, not the reference's, which ignores it. First boot refuses the file afterwards. */
  expires_at: v.optional(v.string()),
});
export type Bootstrap = v.InferOutput<typeof BootstrapSchema>;

export function newBootstrap(options: {
  readonly homeserver: string;
  readonly server: ServerName;
  readonly machine: MachineLocalpart;
  readonly expiresInMs: number | undefined;
  readonly clock: Clock;
}): Bootstrap {
  const { clock, expiresInMs } = options;
  const expires = expiresInMs === undefined ? undefined : { ...clock, now: () => clock.now() + expiresInMs };
  return {
    homeserver_url: options.homeserver,
    server_name: options.server,
    machine_name: options.machine,
    password: randomBytes(32).toString("hex"),
    fleet_prefix: fleetOf(options.machine),
    ...(expires === undefined ? {} : { expires_at: timestamp(expires) }),
  };
}

export const bootstrapText = (bootstrap: Bootstrap): string => `${JSON.stringify(bootstrap, null, 2)}\n`;

export const writeBootstrap = (path: string, bootstrap: Bootstrap): void =>
  writeNamed(
    path,
    bootstrapText(bootstrap),
    0o600,
    "the bootstrap file",
    "--output PATH chooses another place",
  );

/**
 * The file left by an earlier provisioning of `machine`; undefined when there is none. Somebody else's file is never
 * taken for ours, nor overwritten. Its values are not quoted: one of them is a password.
 * @throws BureauError `conflict`
 */
export function readBootstrap(path: string, machine: MachineLocalpart): Bootstrap | undefined {
  const text = readNamedIfPresent(path, "the bootstrap file");
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  const parsed = v.safeParse(BootstrapSchema, json);
  if (!parsed.success || parsed.output.machine_name !== machine)
    throw new BureauError(
      "conflict",
      parsed.success
        ? `"${path}" is the bootstrap file of another machine, "${parsed.output.machine_name}"`
        : `"${path}" exists, and is not a bootstrap file`,
      { hint: "--output PATH chooses another place" },
    );
  return parsed.output;
}

export const hasExpired = (bootstrap: Bootstrap, clock: Clock): boolean =>
  bootstrap.expires_at !== undefined && !(Date.parse(bootstrap.expires_at) > clock.now());
