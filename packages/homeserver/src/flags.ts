/** The program's flags: `--data-dir DIR --server-name NAME --listen ADDRESS --registration-token-file FILE [--share-port]`. */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import type { HomeserverConfig } from "./homeserver.ts";
import type { ListenAddress } from "./http/http-server.ts";

const usage =
  "bureau-homeserver --data-dir DIR --server-name NAME --listen 127.0.0.1:PORT|unix:/PATH --registration-token-file FILE [--share-port]";

/** Bytes a server name may have, so that user IDs stay below 255. */
const SERVER_NAME_BYTES_MAX = 200;

/** Parses and checks the flags, and reads the token. Throws BureauError "invalid-input" naming the flag. */
export function parseFlags(args: string[]): HomeserverConfig {
  const values = readFlags(args);
  const need = (name: Exclude<keyof typeof values, "share-port">): string => {
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
    listen: shareable(parseListen(need("listen")), values["share-port"]),
    registrationToken: readToken(need("registration-token-file")),
  };
}

function readFlags(args: string[]) {
  const text = { type: "string" } as const;
  try {
    const options = {
      "data-dir": text,
      "server-name": text,
      listen: text,
      "registration-token-file": text,
      "share-port": { type: "boolean", default: false } as const,
    };
    return parseArgs({ args, options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw bad(messageOf(error));
  }
}

/** `HOST:PORT` (port 0 for any free one), `[v6]:PORT`, or `unix:/path`. */
export function parseListen(text: string): ListenAddress {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length);
    if (!path.startsWith("/")) throw bad(`--listen ${text} needs an absolute socket path`);
    return { kind: "unix", path };
  }
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const hostname = match?.[1] ?? match?.[2];
  if (hostname === undefined || port > 65_535)
    throw bad(`--listen ${JSON.stringify(text)} is not HOST:PORT or unix:/PATH`);
  return { kind: "tcp", hostname, port };
}

/** A port that whoever started us holds meanwhile, so that nobody else answers on it when we do not. */
const shareable = (address: ListenAddress, shared: boolean): ListenAddress =>
  address.kind === "tcp" ? { ...address, shared } : address;

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
  if (token === "") throw bad(`The registration token file ${path} is empty`);
  return new Secret(token);
}

const bad = (message: string): BureauError => new BureauError("invalid-input", message, { hint: usage });
