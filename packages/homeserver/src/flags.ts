/** The program's flags: `--data-dir DIR --server-name NAME --listen ADDRESS… --registration-token-file FILE`. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import { parseListenAddress } from "@bureau/schema/homeserver-address";
import type { HomeserverConfig } from "./homeserver.ts";

const usage =
  "bureau-homeserver --data-dir DIR --server-name NAME --listen 127.0.0.1:PORT|unix:/PATH [--listen …] --registration-token-file FILE";

/** Bytes a server name may have, so that user IDs stay below 255. */
const SERVER_NAME_BYTES_MAX = 200;

/** Parses and checks the flags, and reads the token. Throws BureauError "invalid-input" naming the flag. */
export function parseFlags(args: string[]): HomeserverConfig {
  const values = readFlags(args);
  const need = (name: Exclude<keyof typeof values, "share-port" | "listen">): string => {
    const value = values[name];
    if (value === undefined || value === "") throw bad(`Flag --${name} is missing`);
    return value;
  };
  const serverName = need("server-name");
  if (!/^[A-Za-z0-9.-]+(:\d{1,5})?$/.test(serverName) || serverName.length > SERVER_NAME_BYTES_MAX) {
    throw bad(`--server-name ${JSON.stringify(serverName)} is not a host name with an optional port`);
  }
  return {
    dataDir: need("data-dir"),
    serverName,
    listen: listenAddresses(values.listen ?? [], values["share-port"]),
    registrationToken: readToken(need("registration-token-file")),
  };
}

function readFlags(args: string[]) {
  const text = { type: "string" } as const;
  try {
    const options = {
      "data-dir": text,
      "server-name": text,
      listen: { ...text, multiple: true } as const,
      "registration-token-file": text,
      "share-port": { type: "boolean", default: false } as const,
    };
    return parseArgs({ args, options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw bad(messageOf(error));
  }
}

/** @throws BureauError `invalid-input` */
function listenAddresses(texts: readonly string[], shared: boolean): HomeserverConfig["listen"] {
  try {
    const [first, ...others] = texts.map(parseListenAddress);
    if (first === undefined) throw bad("Flag --listen is missing");
    // A supervisor of an earlier version holds the port, so an exclusive bind would fail.
    return shared && first.kind === "tcp" ? [{ ...first, shared }] : [first, ...others];
  } catch (error) {
    throw isBureauError(error) ? error : bad(`--listen: ${messageOf(error)}`);
  }
}

function readToken(path: string): Secret {
  let token: string;
  try {
    token = readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new BureauError("not-found", `Cannot read the registration token file ${path}`, {
      hint: "make it with: (umask 077; head -c 32 /dev/urandom | base64 > FILE)",
      cause: error,
    });
  }
  if (token === "")
    throw new BureauError("invalid-input", `The registration token file ${path} is empty`, {
      hint: "MATRIX_REGISTRATION_TOKEN of the credential file beside it is the token",
    });
  return new Secret(token);
}

const bad = (message: string): BureauError => new BureauError("invalid-input", message, { hint: usage });
