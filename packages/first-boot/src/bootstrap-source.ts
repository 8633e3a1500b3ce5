/** Where a machine's first credentials come from: a bootstrap file with a one-time password, or a registration token. */
import { readFileSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import { HomeserverAddressSchema } from "@bureau/schema/homeserver-address";
import { InputError } from "@bureau/schema/parse";
import { isoTimestamp, object, optional, pipe, regex, safeParse, string } from "valibot";
import type { FirstBootConfig } from "./first-boot-config.ts";

export type BootstrapSource = {
  readonly kind: "bootstrap" | "registration";
  readonly homeserverUrl: string;
  /** The one-time password, or the registration token. */
  readonly secret: Secret;
  /** Deleted once it has served; undefined for standard input and for registration tokens. */
  readonly disposableFile: string | undefined;
};

/** Wire facts, section 9.2. */
const BootstrapFileSchema = object({
  homeserver_url: HomeserverAddressSchema,
  server_name: string(),
  machine_name: string(),
  password: pipe(string(), regex(/^[0-9a-f]{64}$/)),
  fleet_prefix: string(),
  /** RFC 3339; ours. After it the file is refused, though its password still works. */
  expires_at: optional(pipe(string(), isoTimestamp())),
});

/** @throws BureauError when neither source was given, it cannot be read, it is for another machine, or it has expired */
export function readBootstrapSource(config: FirstBootConfig, clock: Clock): BootstrapSource {
  const { bootstrapFile, registrationTokenFile } = config;
  if (bootstrapFile !== undefined) return readBootstrapFile(config, bootstrapFile, clock);
  if (registrationTokenFile === undefined)
    throw new BureauError(
      "invalid-input",
      `The machine "${config.machine}" has not joined its fleet, and no bootstrap file or registration token is given`,
      {
        hint: "give --bootstrap-file (made by: bureau machine provision) or --registration-token-file",
      },
    );
  const token = readSecretFile(registrationTokenFile, "registration token").trim();
  if (token === "") throw new BureauError("invalid-input", "The registration token is empty");
  return {
    kind: "registration",
    homeserverUrl: config.homeserverUrl,
    secret: new Secret(token),
    disposableFile: undefined,
  };
}

function readBootstrapFile(config: FirstBootConfig, path: string, clock: Clock): BootstrapSource {
  const file = parseBootstrapFile(readSecretFile(path, "bootstrap file"), path);
  const wanted = { machine_name: config.machine, server_name: config.serverName, fleet_prefix: config.fleet };
  for (const [field, value] of Object.entries(wanted) as [keyof typeof wanted, string][])
    if (file[field] !== value)
      throw new BureauError(
        "invalid-input",
        `The bootstrap file is for another machine: its ${field} is "${file[field]}", not "${value}"`,
      );
  if (file.expires_at !== undefined && Date.parse(file.expires_at) <= clock.now())
    throw new BureauError(
      "unauthorized",
      `The bootstrap file of "${config.machine}" expired at ${file.expires_at}`,
      {
        hint: `have a new one made: bureau machine provision ${config.machine}; or is this machine's clock wrong?`,
      },
    );
  return {
    kind: "bootstrap",
    homeserverUrl: file.homeserver_url,
    secret: new Secret(file.password),
    disposableFile: path === "-" ? undefined : path,
  };
}

/** Names the faulty fields without quoting values: one of them is a password. */
function parseBootstrapFile(text: string, path: string) {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new InputError(`bootstrap file "${path}"`, ["it is not JSON"]);
  }
  const result = safeParse(BootstrapFileSchema, json);
  if (result.success) return result.output;
  const fields = result.issues.map((issue) => String(issue.path?.[0]?.key ?? "the whole"));
  throw new InputError(`bootstrap file "${path}"`, [`missing or malformed: ${fields.join(", ")}`]);
}

function readSecretFile(path: string, what: string): string {
  try {
    return readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    throw new BureauError("not-found", `Cannot read the ${what} "${path}": ${messageOf(error)}`, {
      hint:
        what === "bootstrap file" ? "it is deleted after use: provision the machine again for a new one" : "",
    });
  }
}
