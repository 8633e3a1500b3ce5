/** What a new machine joins with: its name, its homeserver's address and a one-time password (wire facts, section 9.2). */
import { type Clock, timestamp } from "@bureau/kit/clock";
import { fleetOf, type MachineLocalpart, type ServerName } from "@bureau/schema/refs";
import * as v from "valibot";
import { randomHex } from "../digest.ts";

const BootstrapSchema = v.object({
  homeserver_url: v.string(),
  server_name: v.string(),
  machine_name: v.string(),
  /** 64 hex digits; first boot replaces it. */
  password: v.pipe(v.string(), v.minLength(1)),
  fleet_prefix: v.string(),
  /** RFC 3339: ours; the reference ignores it. First boot refuses the file afterwards. */
  expires_at: v.optional(v.string()),
});
export type Bootstrap = v.InferOutput<typeof BootstrapSchema>;

/**
 * Where the bootstrap of one machine is kept between attempts to provision it: a 0600 file of the CLI, say. `write`
 * replaces the old one whole; `read` throws when what is there belongs to something else.
 */
export type BootstrapStore = {
  read(): Bootstrap | undefined;
  write(bootstrap: Bootstrap): void;
  remove(): void;
};

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
    password: randomHex(32),
    fleet_prefix: fleetOf(options.machine),
    ...(expires === undefined ? {} : { expires_at: timestamp(expires) }),
  };
}

/** The text of a bootstrap file. */
export const bootstrapText = (bootstrap: Bootstrap): string => `${JSON.stringify(bootstrap, null, 2)}\n`;

/** Undefined when `text` is not a bootstrap file. Never quotes a value: one of them is a password. */
export function parseBootstrap(text: string): Bootstrap | undefined {
  try {
    const parsed = v.safeParse(BootstrapSchema, JSON.parse(text));
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}

export const hasExpired = (bootstrap: Bootstrap, clock: Clock): boolean =>
  bootstrap.expires_at !== undefined && !(Date.parse(bootstrap.expires_at) > clock.now());
