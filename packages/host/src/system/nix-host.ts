/**
 * Nix as this host has it: what its daemon is configured to ask and to trust, and who may talk to it. Configuration is read
 * as Nix does, with what it includes; only the daemon's own counts, since nobody without privilege may add a cache.
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
/** What installers that own the other file leave to people; it is included there. */
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

/** Links are followed: on some distributions the file is one, into the store. */
function readFollowing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    // An unreadable file is not empty: it may hold the expected lines.
    if (errnoOf(error) === "EACCES") throw error;
    return "";
  }
}

/** Setting → its words; `extra-` adds to what was said before. */
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

/** True when the daemon was started before its configuration was last written, and so has not read it. */
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

/** The group whose members alone may talk to the daemon; undefined when everybody may, or there is none. */
export function daemonGroup(): number | undefined {
  const seen = look(SOCKET_DIR);
  return seen.kind === "folder" && (seen.mode & 0o001) === 0 ? seen.gid : undefined;
}

/** After our lines went: the daemon is to forget them too. */
export async function forgetNixConfig(path: string): Promise<void> {
  if (path === CONFIG || path === CUSTOM) await runCommand(["systemctl", "try-restart", nixDaemonUnit]);
}

/** Nix's own notes of the links that keep versions: it would clear them away itself, at its next collection. */
export function removeNixRoots(programsDir: string): void {
  if (look(AUTO_ROOTS).kind !== "folder") return;
  const ours = `${versionRootsDir(join(programsDir, "current"))}/`;
  for (const name of readdirSync(AUTO_ROOTS))
    if (targetOf(join(AUTO_ROOTS, name))?.startsWith(ours) === true) rmSync(join(AUTO_ROOTS, name));
}
