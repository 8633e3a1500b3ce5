/** Where a machine's first credentials come from: a bootstrap file with a one-time password, or a registration token. */
import { readFileSync } from "node:fs";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import { InputError } from "@bureau/schema/parse";
import { object, pipe, regex, safeParse, string } from "valibot";
import type { LauncherConfig } from "../launcher-config.ts";

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
  homeserver_url: pipe(string(), regex(/^https?:\/\//)),
  server_name: string(),
  machine_name: string(),
  password: pipe(string(), regex(/^[0-9a-f]{64}$/)),
  fleet_prefix: string(),
});

/** @throws BureauError when neither source was given, it cannot be read, or it is for another machine */
export function readBootstrapSource(config: LauncherConfig): BootstrapSource {
  const { bootstrapFile, registrationTokenFile } = config;
  if (bootstrapFile !== undefined) return readBootstrapFile(config, bootstrapFile);
  if (registrationTokenFile === undefined)
    throw new BureauError(
      "invalid-input",
      `The machine "${config.machine}" has not joined its fleet yet, and was given no way to`,
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

function readBootstrapFile(config: LauncherConfig, path: string): BootstrapSource {
  const file = parseBootstrapFile(readSecretFile(path, "bootstrap file"), path);
  const wanted = { machine_name: config.machine, server_name: config.serverName, fleet_prefix: config.fleet };
  for (const [field, value] of Object.entries(wanted) as [keyof typeof wanted, string][])
    if (file[field] !== value)
      throw new BureauError(
        "invalid-input",
        `The bootstrap file is for another machine: its ${field} is "${file[field]}", not "${value}"`,
      );
  return {
    kind: "bootstrap",
    homeserverUrl: file.homeserver_url.replace(/\/+$/, ""),
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
