/**
 * Nix on this host: the caches that its daemon uses and trusts, and who may connect to it. The configuration is read as Nix
 * reads it, with its includes. Only the daemon's configuration counts, since users without privilege may not add a cache.
 */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { errnoOf } from "@bureau/kit/errors";
import { versionRootsDir } from "@bureau/os/layout";
import { identify } from "@bureau/os/process-table";
import { unitStates } from "@bureau/os/systemctl";
import { look, targetOf, textOf } from "./look.ts";
import { runCommand } from "./run-command.ts";

const CONFIG = "/etc/nix/nix.conf";
/** For people, where an installer owns the other file, which includes this one. */
const CUSTOM = "/etc/nix/nix.custom.conf";
export const nixDaemonUnit = "nix-daemon.service";
const SOCKET_DIR = "/nix/var/nix/daemon-socket";
const AUTO_ROOTS = "/nix/var/nix/gcroots/auto";
const INCLUDES_MAX = 8;

export type NixConfig = {
  readonly substituters: readonly string[];
  readonly publicKeys: readonly string[];
  /** Where our lines go. */
  readonly file: string;
};

export function readNixConfig(): NixConfig {
  const files: string[] = [];
  const settings = readSettings(CONFIG, files);
  const of = (...names: string[]): string[] => names.flatMap((name) => settings.get(name) ?? []);
  return {
    substituters: of("substituters", "binary-caches"),
    publicKeys: of("trusted-public-keys", "binary-cache-public-keys"),
    file: files.includes(CUSTOM) ? CUSTOM : CONFIG,
  };
}

/** Follows links: on some distributions the file is a link into the store. */
function readFollowing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    // An unreadable file is not empty: it may hold the expected lines.
    if (errnoOf(error) === "EACCES") throw error;
    return "";
  }
}

/** Setting → its words; `extra-` adds to earlier ones. */
function readSettings(path: string, files: string[], settings = new Map<string, string[]>()) {
  if (files.length >= INCLUDES_MAX) return settings;
  files.push(path);
  for (const line of readFollowing(path).split("\n")) {
    const text = line.replace(/#.*$/, "").trim();
    const include = /^!?include\s+(\S+)$/.exec(text)?.[1];
    if (include !== undefined) readSettings(resolve(dirname(path), include), files, settings);
    const [, extra, name = "", value = ""] = /^(extra-)?([a-z0-9-]+)\s*=\s*(.*)$/.exec(text) ?? [];
    if (name === "") continue;
    const words = value.split(/\s+/).filter((word) => word !== "");
    settings.set(name, extra === undefined ? words : [...(settings.get(name) ?? []), ...words]);
  }
  return settings;
}

/** True when the daemon started before its configuration was last written, so it has not read it. */
export async function hasOldConfig(): Promise<boolean> {
  const state = (await unitStates([nixDaemonUnit])).get(nixDaemonUnit);
  const process = state?.active === "active" && state.pid !== undefined ? identify(state.pid) : undefined;
  if (process === undefined) return false;
  return [CONFIG, CUSTOM].some((path) => {
    const seen = look(path);
    return seen.kind === "file" && seen.changedMs > startedMs(process.startTicks);
  });
}

/** Clock ticks a second, which the kernel fixes for all programs (proc(5)). */
const TICKS_PER_SECOND = 100;
const startedMs = (ticks: number): number => {
  const uptimeSeconds = Number((textOf("/proc/uptime") ?? "0").split(" ")[0]);
  return Date.now() - (uptimeSeconds - ticks / TICKS_PER_SECOND) * 1_000;
};

/** The only group that may connect to the daemon; undefined when every user may, or there is no daemon. */
export function daemonGroup(): number | undefined {
  const seen = look(SOCKET_DIR);
  return seen.kind === "folder" && (seen.mode & 0o001) === 0 ? seen.gid : undefined;
}

/** After our lines are removed: restarts the daemon, so that it no longer uses them. */
export async function forgetNixConfig(path: string): Promise<void> {
  if (path === CONFIG || path === CUSTOM) await runCommand(["systemctl", "try-restart", nixDaemonUnit]);
}

/** Removes Nix's references to our links, as Nix itself would at its next garbage collection. */
export function removeNixRoots(buildDir: string): void {
  if (look(AUTO_ROOTS).kind !== "folder") return;
  const ours = `${versionRootsDir(join(buildDir, "current"))}/`;
  for (const name of readdirSync(AUTO_ROOTS))
    if (targetOf(join(AUTO_ROOTS, name))?.startsWith(ours) === true) rmSync(join(AUTO_ROOTS, name));
}
