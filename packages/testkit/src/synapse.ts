/**
 * A real Synapse for tests: installed once by pip into a cache outside the repository, started on loopback with a
 * SQLite database in a temp folder, no federation and no rate limits, and thrown away afterwards. Registration
 * needs a token, as with the embedded homeserver, so the same test speaks to both.
 */
import { createHmac, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";

export type Synapse = AsyncDisposable & {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
  readonly serverName: string;
  /** Registers any number of accounts. */
  readonly registrationToken: string;
  /** Access token of a server admin made for the test. */
  readonly adminToken: string;
  stop(): Promise<void>;
};

const SERVER_NAME = "synapse.test";
/** A cold start on a busy two-core machine takes some ten seconds. */
const START_MS_MAX = 90_000;
const STOP_MS_MAX = 10_000;
/** Pip downloads and unpacks some 60 MB. */
const INSTALL_MS_MAX = 10 * 60_000;
const POLL_MS = 50;

/** Folder of the virtual environment with Synapse and matrix-nio. */
export function synapseEnvironment(): string {
  const cache = process.env["BUREAU_TEST_CACHE"];
  if (cache !== undefined && cache !== "") return join(cache, "synapse");
  const xdg = process.env["XDG_CACHE_HOME"];
  return join(xdg !== undefined && xdg !== "" ? xdg : join(homedir(), ".cache"), "bureau-test", "synapse");
}

/** The environment's Python, installing Synapse and matrix-nio on first use. */
export async function synapsePython(): Promise<string> {
  const folder = synapseEnvironment();
  const python = join(folder, "bin", "python");
  if (existsSync(join(folder, "bin", "synapse_homeserver"))) return python;
  mkdirSync(folder, { recursive: true });
  await run(["python3", "-m", "venv", folder]);
  await run([python, "-m", "pip", "install", "--quiet", "matrix-nio", "matrix-synapse"]);
  return python;
}

async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe", timeout: INSTALL_MS_MAX });
  const output = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) {
    throw new BureauError("failed", `Cannot install Synapse: ${command.join(" ")}: ${output.slice(-2_000)}`, {
      hint: "Synapse needs python3 with venv, and a package index that pip can reach",
    });
  }
}

/** Starts a fresh Synapse and returns once it answers and the token is made. */
export async function startSynapse(): Promise<Synapse> {
  const python = await synapsePython();
  const folder = mkdtempSync(join(tmpdir(), "bureau-synapse-"));
  const secret = randomBytes(24).toString("hex");
  const url = `http://127.0.0.1:${await freePort()}`;
  writeConfig(folder, new URL(url).port, secret);
  const command = [python, "-m", "synapse.app.homeserver", "-c", join(folder, "homeserver.yaml")];
  const child = Bun.spawn(command, {
    cwd: folder,
    stdout: "ignore",
    stderr: Bun.file(join(folder, "stderr")),
  });
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
    await child.exited;
    clearTimeout(killer);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await untilReady(url, child, folder);
    const adminToken = await registerAdmin(url, secret);
    const registrationToken = await makeRegistrationToken(url, adminToken);
    return { url, serverName: SERVER_NAME, registrationToken, adminToken, stop, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
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

function writeConfig(folder: string, port: string, secret: string): void {
  const fast = { per_second: 100_000, burst_count: 100_000 };
  const config = {
    server_name: SERVER_NAME,
    pid_file: join(folder, "homeserver.pid"),
    listeners: [
      {
        port: Number(port),
        type: "http",
        bind_addresses: ["127.0.0.1"],
        resources: [{ names: ["client"], compress: false }],
      },
    ],
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
    ...limits(fast),
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

async function untilReady(url: string, child: Bun.Subprocess, folder: string): Promise<void> {
  const deadline = systemClock.monotonic() + START_MS_MAX;
  while (systemClock.monotonic() < deadline) {
    if (child.exitCode !== null) break;
    if (await answers(url)) return;
    await systemClock.sleep(POLL_MS);
  }
  const why = ["stderr", "synapse.log"].map((name) => tail(join(folder, name))).join("\n");
  throw new BureauError("failed", `Synapse did not start (exit ${child.exitCode}): ${why}`);
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/_matrix/client/versions`, { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false;
  }
}

const tail = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8").slice(-2_000) : "");

async function registerAdmin(url: string, secret: string): Promise<string> {
  const endpoint = `${url}/_synapse/admin/v1/register`;
  const nonce = text(await call(endpoint, "GET", undefined, undefined), "nonce");
  const [username, password] = ["test-admin", randomBytes(12).toString("hex")];
  const mac = createHmac("sha1", secret)
    .update([nonce, username, password, "admin"].join("\0"))
    .digest("hex");
  return text(
    await call(endpoint, "POST", { nonce, username, password, admin: true, mac }, undefined),
    "access_token",
  );
}

async function makeRegistrationToken(url: string, adminToken: string): Promise<string> {
  const token = randomBytes(16).toString("hex");
  return text(
    await call(`${url}/_synapse/admin/v1/registration_tokens/new`, "POST", { token }, adminToken),
    "token",
  );
}

async function call(url: string, method: string, body: unknown, token: string | undefined): Promise<unknown> {
  const response = await fetch(url, {
    method,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = await response.text();
  if (!response.ok)
    throw new BureauError("failed", `Synapse answered ${response.status} to ${method} ${url}: ${answer}`);
  try {
    return JSON.parse(answer);
  } catch (error) {
    throw new BureauError("failed", `Synapse answered no JSON to ${method} ${url}: ${messageOf(error)}`);
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
