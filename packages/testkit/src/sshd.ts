/**
 * A real OpenSSH server on a loopback port, with keys of its own, that accepts the user who runs the tests. Reads and
 * changes nothing of that user's own ssh configuration, keys or known hosts.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { descendantsOf } from "@bureau/os/process-table";

export type Sshd = AsyncDisposable & {
  readonly user: string;
  readonly port: number;
  /** `KEY=VALUE` for ssh: its key, and the one host key it knows. */
  readonly options: readonly string[];
  /** The same, knowing another host key for this address. */
  readonly optionsWithWrongHostKey: readonly string[];
  /** Ends every connection and accepts none, like a host that is down. */
  stop(): Promise<void>;
};

/** sshd lies where PATH of an ordinary user does not lead. */
export const sshdProgram = Bun.which("sshd", { PATH: `${process.env["PATH"]}${delimiter}/usr/sbin` });

const READY_MS_MAX = 10_000;

/** @throws Error when it does not listen in time, with what it printed */
export async function startSshd(): Promise<Sshd> {
  if (sshdProgram === null) throw new Error("no sshd on this host");
  const folder = mkdtempSync(join(tmpdir(), "bureau-sshd-"));
  chmodSync(folder, 0o755);
  const key = (name: string): string => makeKey(join(folder, name));
  const [hostKey, otherKey, clientKey] = [key("host"), key("other"), key("client")];
  const port = await freePort();
  writeFileSync(join(folder, "authorized"), readFileSync(`${clientKey}.pub`, "utf8"), { mode: 0o644 });
  writeFileSync(join(folder, "sshd_config"), sshdConfig(folder, port));
  // Root's sshd separates privileges in this folder, which only a started service makes.
  if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
  const child = Bun.spawn([sshdProgram, "-D", "-e", "-f", join(folder, "sshd_config")], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: Bun.file(join(folder, "log")),
  });
  const stop = async (): Promise<void> => {
    endWithChildren(child.pid);
    await child.exited;
  };
  const ready = await waitFor(() => listens(port), { timeoutMs: READY_MS_MAX, clock: systemClock });
  if (ready === undefined) {
    await stop();
    throw new Error(`sshd does not listen:\n${readFileSync(join(folder, "log"), "utf8")}`);
  }
  return {
    user: Bun.spawnSync(["id", "-un"]).stdout.toString().trim(),
    port,
    options: clientOptions(folder, clientKey, knownHosts(folder, "known", port, hostKey)),
    optionsWithWrongHostKey: clientOptions(folder, clientKey, knownHosts(folder, "wrong", port, otherKey)),
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function makeKey(path: string): string {
  const made = Bun.spawnSync(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]);
  if (!made.success) throw new Error(`ssh-keygen: ${made.stderr.toString()}`);
  return path;
}

const sshdConfig = (folder: string, port: number): string => `Port ${port}
ListenAddress 127.0.0.1
HostKey ${join(folder, "host")}
AuthorizedKeysFile ${join(folder, "authorized")}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
`;

function knownHosts(folder: string, name: string, port: number, hostKey: string): string {
  const path = join(folder, name);
  writeFileSync(path, `[127.0.0.1]:${port} ${readFileSync(`${hostKey}.pub`, "utf8")}`);
  return path;
}

const clientOptions = (folder: string, clientKey: string, known: string): string[] => [
  `IdentityFile=${clientKey}`,
  "IdentitiesOnly=yes",
  "IdentityAgent=none",
  `UserKnownHostsFile=${known}`,
  `GlobalKnownHostsFile=${join(folder, "none")}`,
  "StrictHostKeyChecking=yes",
];

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

async function listens(port: number): Promise<true | undefined> {
  try {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => {} } });
    socket.end();
    return true;
  } catch {
    return undefined;
  }
}

/** A process and all that it started, parents first. */
const treeOf = (pid: number): number[] => [pid, ...descendantsOf(pid).map((below) => below.pid)];

/** Ends a process of ours and everything it started; parents first, so that none tells a client how its child ended. */
function endWithChildren(pid: number): void {
  for (const each of treeOf(pid)) {
    try {
      process.kill(each, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}
