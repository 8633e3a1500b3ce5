/**
 * A real Synapse for tests: installed once by pip into a cache outside the repository, started on loopback with a
 * SQLite database in a temp folder, no federation and no rate limits unless its own are asked for, and removed afterwards. Registration
 * needs a token, as with the embedded homeserver, so that the same test runs against both.
 */
import { createHmac, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { childrenOf, identify, signalProcess } from "@bureau/os/process-table";
import { installOnce, runInstaller } from "./install-once.ts";

export type Synapse = AsyncDisposable & {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
  readonly serverName: string;
  /** Registers any number of accounts. */
  readonly registrationToken: string;
  /** Access token of a server admin made for the test. */
  readonly adminToken: string;
  /** Stops it and removes its folder. */
  stop(): Promise<void>;
  /** Stops it for a while; `resume` starts it again with its data. */
  interrupt(): Promise<void>;
  resume(): Promise<void>;
};

const SERVER_NAME = "synapse.test";
/** A cold start on a busy two-core machine takes some ten seconds. */
const START_MS_MAX = 90_000;
const STOP_MS_MAX = 10_000;
const POLL_MS = 50;

/** The interpreter that a sandbox sees: the host's own, under /usr. */
export const hostPython = "/usr/bin/python3";

/** The Python of a virtual environment with Synapse and matrix-nio, installed on first use. */
export async function synapsePython(): Promise<string> {
  const folder = await installOnce("synapse", async (folder) => {
    await runInstaller(["python3", "-m", "venv", folder]);
    await runInstaller([pythonOf(folder), "-m", "pip", "install", "--quiet", "matrix-nio", "matrix-synapse"]);
  });
  return pythonOf(folder);
}

const pythonOf = (environment: string): string => join(environment, "bin", "python");

/** A folder of packages, matrix-nio and what it needs, for {@link hostPython}; installed on first use. */
export async function nioPackages(): Promise<string> {
  const pip = [await synapsePython(), "-m", "pip", "--python", hostPython];
  const asked = Bun.spawnSync([hostPython, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
  return await installOnce(`nio-${asked.stdout.toString().trim()}`, (folder) =>
    runInstaller([...pip, "install", "--quiet", "--upgrade", "--target", folder, "matrix-nio"]),
  );
}

/** A place for a Synapse that is not this host's loopback: another network namespace, say. */
export type SynapseSite = {
  readonly serverName: string;
  readonly address: string;
  readonly port: number;
  /** An existing folder to keep everything in. */
  readonly folder: string;
  /** `command` as it is run there, by a program that runs it as its child and waits for it. */
  enter(command: readonly string[]): string[];
};

/** `stock`: those that Synapse has when its configuration says nothing. */
export type SynapseLimits = "none" | "stock";

/** Starts a fresh Synapse and returns once it answers and the token is made. */
export async function startSynapse(site?: SynapseSite, rateLimits: SynapseLimits = "none"): Promise<Synapse> {
  const python = await synapsePython();
  const folder = mkdtempSync(join(site?.folder ?? tmpdir(), "bureau-synapse-"));
  const secret = randomBytes(24).toString("hex");
  const listen = { address: site?.address ?? "127.0.0.1", port: site?.port ?? (await freePort()) };
  const serverName = site?.serverName ?? SERVER_NAME;
  const url = `http://${listen.address}:${listen.port}`;
  // Where its address is out of reach from here, it can be asked through the file system.
  const door: Door = site === undefined ? { url } : { url, unix: join(folder, "door.sock") };
  writeConfig(folder, {
    serverName,
    secret,
    rateLimits,
    listeners: [listen, ...("unix" in door ? [door] : [])],
  });
  const command = [python, "-m", "synapse.app.homeserver", "-c", join(folder, "homeserver.yaml")];
  const engine = new SynapseProcess(site?.enter(command) ?? command, folder, door, site !== undefined);
  const stop = async (): Promise<void> => {
    await engine.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await engine.start();
    const adminToken = await registerAdmin(door, secret);
    const registrationToken = await makeRegistrationToken(door, adminToken);
    return {
      url,
      serverName,
      registrationToken,
      adminToken,
      stop,
      [Symbol.asyncDispose]: stop,
      interrupt: () => engine.stop(),
      resume: () => engine.start(),
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** How this process asks a Synapse. */
type Door = { readonly url: string; readonly unix?: string };

class SynapseProcess {
  #child: Bun.Subprocess | undefined;
  constructor(
    readonly command: string[],
    readonly folder: string,
    readonly door: Door,
    /** The command enters another place and waits there for Synapse. */
    readonly isEntered: boolean,
  ) {}

  /** Resolves when it answers. */
  async start(): Promise<void> {
    this.#child = Bun.spawn(this.command, {
      cwd: this.folder,
      stdin: "ignore",
      stdout: "ignore",
      stderr: Bun.file(join(this.folder, "stderr")),
    });
    await untilReady(this.door, this.#child, this.folder);
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    this.#signal(child, "SIGTERM");
    const killer = setTimeout(() => this.#signal(child, "SIGKILL"), STOP_MS_MAX);
    await child.exited;
    clearTimeout(killer);
  }

  #signal(child: Bun.Subprocess, signal: NodeJS.Signals): void {
    const synapse = this.isEntered ? identify(childrenOf(child.pid)[0] ?? 0) : undefined;
    if (synapse === undefined) child.kill(signal);
    else signalProcess(synapse, signal);
  }
}

/** A port that was free a moment ago; Synapse cannot report one that it chose itself. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

type Listener = { readonly address: string; readonly port: number } | { readonly unix?: string };
type ConfigInput = {
  readonly serverName: string;
  readonly secret: string;
  readonly rateLimits: SynapseLimits;
  readonly listeners: Listener[];
};

const listenerOf = (listener: Listener): Record<string, unknown> => ({
  ...("address" in listener
    ? { port: listener.port, bind_addresses: [listener.address] }
    : { path: listener.unix, mode: 0o600 }),
  type: "http",
  resources: [{ names: ["client"], compress: false }],
});

function writeConfig(folder: string, { serverName, secret, rateLimits, listeners }: ConfigInput): void {
  const config = {
    server_name: serverName,
    pid_file: join(folder, "homeserver.pid"),
    listeners: listeners.map(listenerOf),
    database: { name: "sqlite3", args: { database: join(folder, "homeserver.db") } },
    log_config: join(folder, "log.yaml"),
    media_store_path: join(folder, "media"),
    signing_key_path: join(folder, "signing.key"),
    registration_shared_secret: secret,
    macaroon_secret_key: randomBytes(24).toString("hex"),
    form_secret: randomBytes(24).toString("hex"),
    enable_registration: true,
    registration_requires_token: true,
    federation_domain_whitelist: [],
    trusted_key_servers: [],
    suppress_key_server_warning: true,
    report_stats: false,
    // Hashing passwords is most of what a login costs, and no test measures Synapse's.
    bcrypt_rounds: 4,
    ...(rateLimits === "none" ? limits({ per_second: 100_000, burst_count: 100_000 }) : {}),
  };
  // YAML is a superset of JSON.
  writeFileSync(join(folder, "homeserver.yaml"), JSON.stringify(config, null, 2));
  writeFileSync(join(folder, "log.yaml"), JSON.stringify(logConfig(folder)));
  const key = randomBytes(32).toString("base64").replace(/=+$/, "");
  writeFileSync(join(folder, "signing.key"), `ed25519 a_test ${key}\n`, { mode: 0o600 });
}

type Limit = { per_second: number; burst_count: number };

const limits = (fast: Limit): Record<string, unknown> => ({
  rc_message: fast,
  rc_registration: fast,
  rc_registration_token_validity: fast,
  rc_login: { address: fast, account: fast, failed_attempts: fast },
  rc_admin_redaction: fast,
  rc_joins: { local: fast, remote: fast },
  rc_joins_per_room: fast,
  rc_invites: { per_room: fast, per_user: fast, per_issuer: fast },
  rc_presence: { per_user: fast },
  rc_room_creation: fast,
  rc_key_requests: fast,
});

const logConfig = (folder: string): Record<string, unknown> => ({
  version: 1,
  handlers: { file: { class: "logging.FileHandler", filename: join(folder, "synapse.log") } },
  root: { level: "WARNING", handlers: ["file"] },
  disable_existing_loggers: false,
});

async function untilReady(door: Door, child: Bun.Subprocess, folder: string): Promise<void> {
  const deadline = systemClock.monotonic() + START_MS_MAX;
  while (systemClock.monotonic() < deadline) {
    if (child.exitCode !== null) break;
    if (await answers(door)) return;
    await systemClock.sleep(POLL_MS);
  }
  const why = ["stderr", "synapse.log"].map((name) => tail(join(folder, name))).join("\n");
  throw new BureauError("failed", `Synapse did not start (exit ${child.exitCode}): ${why}`);
}

async function answers(door: Door): Promise<boolean> {
  try {
    return (await ask(door, "/_matrix/client/versions", { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false;
  }
}

const tail = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8").slice(-2_000) : "");

async function registerAdmin(door: Door, secret: string): Promise<string> {
  const endpoint = "/_synapse/admin/v1/register";
  const nonce = text(await call(door, endpoint, "GET", undefined, undefined), "nonce");
  const [username, password] = ["test-admin", randomBytes(12).toString("hex")];
  const mac = createHmac("sha1", secret)
    .update([nonce, username, password, "admin"].join("\0"))
    .digest("hex");
  return text(
    await call(door, endpoint, "POST", { nonce, username, password, admin: true, mac }, undefined),
    "access_token",
  );
}

async function makeRegistrationToken(door: Door, adminToken: string): Promise<string> {
  const token = randomBytes(16).toString("hex");
  return text(
    await call(door, "/_synapse/admin/v1/registration_tokens/new", "POST", { token }, adminToken),
    "token",
  );
}

const ask = (door: Door, path: string, init: RequestInit): Promise<Response> =>
  fetch(`${door.url}${path}`, { ...init, ...(door.unix === undefined ? {} : { unix: door.unix }) });

async function call(
  door: Door,
  path: string,
  method: string,
  body: unknown,
  token: string | undefined,
): Promise<unknown> {
  const response = await ask(door, path, {
    method,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = await response.text();
  if (!response.ok)
    throw new BureauError("failed", `Synapse answered ${response.status} to ${method} ${path}: ${answer}`);
  try {
    return JSON.parse(answer);
  } catch (error) {
    throw new BureauError("failed", `Synapse answered no JSON to ${method} ${path}: ${messageOf(error)}`);
  }
}

function text(value: unknown, key: string): string {
  const field =
    typeof value === "object" && value !== null
      ? Object.entries(value).find(([name]) => name === key)
      : undefined;
  if (typeof field?.[1] !== "string") throw new BureauError("failed", `Synapse's answer has no ${key}`);
  return field[1];
}
