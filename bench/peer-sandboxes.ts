/**
 * The sandboxes of others that `bench/peers.ts` starts: bubblewrap by hand, runc, podman and srt. Each runs one shell
 * command that sees `/usr` of the host and one folder that it may write to, without a network.
 */
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { descendantsOf } from "@bureau/os/process-table";
import { findProgram, installPrograms, notCompared } from "./debian-packages.ts";

/** Of npm's `@anthropic-ai/sandbox-runtime`. */
const SRT_VERSION = "0.0.83";

/** A started sandbox: the processes that hold it, and how to end it. */
export type RunningPeer = { pids(): number[]; stop(): Promise<void> };
export type Peer = {
  readonly name: string;
  /** The path of the writable folder inside. */
  readonly inside: (folder: string) => string;
  /** Starts `command`; may return before its first instruction. `id` is unique. */
  start(id: string, folder: string, command: string): RunningPeer;
};

/** Every peer that this host can run; the others are reported. `folder` is theirs to write to. */
export async function preparePeers(folder: string): Promise<Peer[]> {
  const root = makeRoot(join(folder, "root"));
  const candidates = {
    bubblewrap: () => bubblewrap(),
    runc: () => runc(folder, root),
    podman: () => podman(folder, root),
    srt: () => srt(folder),
  };
  const peers: Peer[] = [];
  for (const [name, open] of Object.entries(candidates)) {
    const peer = open();
    const problem = typeof peer === "string" ? peer : await tryOnce(peer, folder);
    if (problem !== undefined) notCompared(name, problem);
    else if (typeof peer !== "string") peers.push(peer);
  }
  return peers;
}

/** @returns why the peer cannot run here */
async function tryOnce(peer: Peer, folder: string): Promise<string | undefined> {
  const shared = join(folder, `try-${peer.name.split(" ")[0]}`);
  mkdirSync(shared);
  const running = peer.start("bureau-bench-try", shared, `touch ${peer.inside(shared)}/first; sleep 1000`);
  const deadline = Date.now() + 15_000;
  while (!(await Bun.file(join(shared, "first")).exists())) {
    if (Date.now() > deadline) {
      await running.stop();
      return `${peer.name} does not start a sandbox on this host (its own message is above)`;
    }
    await Bun.sleep(20);
  }
  await running.stop();
  return undefined;
}

/** A root folder whose programs are the host's, mounted at `/usr`. */
function makeRoot(root: string): string {
  for (const name of ["usr", "proc", "sys", "dev", "tmp", "workspace", "etc", "run"])
    mkdirSync(join(root, name), { recursive: true });
  for (const name of ["bin", "sbin", "lib", "lib64"]) symlinkSync(`usr/${name}`, join(root, name));
  return root;
}

const versionOf = (command: string[], pattern: RegExp): string =>
  pattern.exec(Bun.spawnSync(command).stdout.toString())?.[1] ?? "of unknown version";

const treeOf = (pid: number): number[] => [pid, ...descendantsOf(pid).map((below) => below.pid)];

/** A process that holds its sandbox as its children. */
function foreground(command: string[]): RunningPeer {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "inherit" });
  return {
    pids: () => treeOf(child.pid),
    async stop() {
      const all = treeOf(child.pid);
      child.kill();
      const late = setTimeout(() => child.kill("SIGKILL"), 3_000);
      await child.exited;
      clearTimeout(late);
      for (const pid of all.slice(1)) killQuietly(pid);
    },
  };
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended with its parent.
  }
}

/** A container that runs without its starter: `pidFile` names the process that holds it. */
function detached(command: string[], pidFile: string, remove: string[]): RunningPeer {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "inherit" });
  return {
    pids: () => treeOf(Number(readFileSync(pidFile, "utf8"))),
    async stop() {
      await child.exited;
      const removing = Bun.spawn(remove, { stdout: "ignore", stderr: "ignore" });
      await removing.exited;
      rmSync(pidFile, { force: true });
    },
  };
}

function bubblewrap(): Peer | string {
  const missing = installPrograms({ bwrap: "bubblewrap" });
  if (missing !== undefined) return missing;
  const links = ["bin", "sbin", "lib", "lib64"].flatMap((name) => ["--symlink", `usr/${name}`, `/${name}`]);
  const fixed = [
    "--ro-bind",
    "/usr",
    "/usr",
    ...links,
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
  ];
  return {
    name: `bubblewrap ${versionOf(["bwrap", "--version"], /bubblewrap (\S+)/u)} by hand`,
    inside: () => "/workspace",
    start: (_id, folder, command) =>
      foreground([
        ...["bwrap", "--unshare-all", "--die-with-parent", ...fixed],
        ...["--bind", folder, "/workspace", "--", "/bin/sh", "-c", command],
      ]),
  };
}

type RuncConfig = { process: Record<string, unknown>; root: unknown; mounts: unknown[] };

function runc(folder: string, root: string): Peer | string {
  const missing = installPrograms({ runc: "runc" });
  if (missing !== undefined) return missing;
  if (process.getuid?.() !== 0) return "runc needs root";
  const program = findProgram("runc") ?? "runc";
  return {
    name: `runc ${versionOf([program, "--version"], /runc version (\S+)/u)}`,
    inside: () => "/workspace",
    start(id, shared, command) {
      const bundle = join(folder, `bundle-${id}`);
      mkdirSync(bundle, { recursive: true });
      rmSync(join(bundle, "config.json"), { force: true });
      Bun.spawnSync([program, "spec", "-b", bundle]);
      const config = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as RuncConfig;
      // Limits stay: a container of a container may not raise them.
      const { rlimits: _, ...own } = config.process;
      config.process = { ...own, terminal: false, args: ["/bin/sh", "-c", command] };
      config.root = { path: root, readonly: true };
      const bind = (source: string, destination: string, mode: string): unknown => ({
        type: "bind",
        source,
        destination,
        options: ["rbind", mode],
      });
      config.mounts.push(bind("/usr", "/usr", "ro"), bind(shared, "/workspace", "rw"));
      writeFileSync(join(bundle, "config.json"), JSON.stringify(config));
      const pidFile = join(bundle, "pid");
      return detached([program, "run", "-d", "-b", bundle, "--pid-file", pidFile, id], pidFile, [
        program,
        "delete",
        "-f",
        id,
      ]);
    },
  };
}

function podman(folder: string, root: string): Peer | string {
  const missing = installPrograms({ podman: "podman", conmon: "conmon", runc: "runc" });
  if (missing !== undefined) return missing;
  return {
    name: `podman ${versionOf(["podman", "--version"], /version (\S+)/u)}`,
    inside: () => "/workspace",
    start(id, shared, command) {
      const pidFile = join(folder, `${id}.conmon`);
      const limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
      return detached(
        [
          ...["podman", "run", "--rm", "-d", "--name", id, "--network", "none", ...limits],
          ...["--conmon-pidfile", pidFile, "-v", "/usr:/usr:ro", "-v", `${shared}:/workspace`],
          ...["--rootfs", root, "/bin/sh", "-c", command],
        ],
        pidFile,
        ["podman", "rm", "-f", "-t", "0", id],
      );
    },
  };
}

function srt(folder: string): Peer | string {
  const missing = installPrograms({ bwrap: "bubblewrap", socat: "socat", rg: "ripgrep" });
  if (missing !== undefined) return missing;
  if (findProgram("npm") === undefined) return "there is no npm to install it with";
  const place = join(folder, "srt");
  mkdirSync(place);
  writeFileSync(join(place, "package.json"), "{}");
  const { success } = Bun.spawnSync(
    ["npm", "install", "--no-audit", "--no-fund", `@anthropic-ai/sandbox-runtime@${SRT_VERSION}`],
    { cwd: place, stdout: "ignore", stderr: "inherit" },
  );
  if (!success) return `npm cannot install @anthropic-ai/sandbox-runtime@${SRT_VERSION}`;
  return {
    name: `srt ${SRT_VERSION}`,
    inside: (shared) => shared,
    start(id, shared, command) {
      const settings = join(folder, `${id}.json`);
      const filesystem = { denyRead: [], allowWrite: [shared], denyWrite: [] };
      writeFileSync(
        settings,
        JSON.stringify({ network: { allowedDomains: [], deniedDomains: [] }, filesystem }),
      );
      return foreground([join(place, "node_modules/.bin/srt"), "-s", settings, "-c", command]);
    },
  };
}
